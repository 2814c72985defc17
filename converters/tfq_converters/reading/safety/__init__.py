"""Safety of strangers' files: lists of what only computes, and the checks that name all else."""
