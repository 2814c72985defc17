"""Weight algorithms: each is one function of a `WeightProblem`, and one row of `table.ALGORITHMS`."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.algorithms.auto import with_algorithm_named
    from tfq_fine.algorithms.input_patches import patches
    from tfq_fine.algorithms.least_squares import to_matrices
    from tfq_fine.algorithms.moments import Moments
    from tfq_fine.algorithms.problem import (
        Algorithm,
        InputStatistics,
        MomentInputs,
        OperatorInputs,
        Option,
        Scope,
        Solution,
        Statistic,
        WeightProblem,
        has_state,
        has_statistics,
    )
    from tfq_fine.algorithms.table import (
        ALGORITHMS,
        algorithm_named,
        algorithm_of,
        algorithm_problems,
        solution,
        solve,
        with_stand_in,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "auto": "with_algorithm_named",
            "input_patches": "patches",
            "least_squares": "to_matrices",
            "moments": "Moments",
            "problem": "Algorithm InputStatistics MomentInputs OperatorInputs Option Scope Solution Statistic "
            "WeightProblem has_state has_statistics",
            "table": "ALGORITHMS algorithm_problems algorithm_of algorithm_named solution solve with_stand_in",
        },
    )

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "InputStatistics",
    "MomentInputs",
    "Moments",
    "OperatorInputs",
    "Option",
    "Scope",
    "Solution",
    "Statistic",
    "WeightProblem",
    "algorithm_named",
    "algorithm_of",
    "algorithm_problems",
    "has_state",
    "has_statistics",
    "patches",
    "solution",
    "solve",
    "to_matrices",
    "with_algorithm_named",
    "with_stand_in",
]
