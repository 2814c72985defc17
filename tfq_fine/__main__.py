"""`python -m tfq_fine`: the command line without an installed script."""

from tfq_fine.cli import main

if __name__ == "__main__":
    main()
