"""Running files: interpreters here or in processes of their own, and what to do with operators that none executes."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.runtime.apart_child import timed
    from tfq_converters.runtime.apart_process import Apart, ApartRunner, apart
    from tfq_converters.runtime.candidate_runs import FileRuns, file_runs
    from tfq_converters.runtime.child_process import pipe, python_command, python_environment, started
    from tfq_converters.runtime.child_runs import Arrays, Runs, waiting
    from tfq_converters.runtime.input_values import drawn, role_of
    from tfq_converters.runtime.patience import check_timeout, float_seconds
    from tfq_converters.runtime.runner import RESOLVERS, Kernels, Runner
    from tfq_converters.runtime.runner_pool import RunnerPool
    from tfq_converters.runtime.unrunnable import (
        depends_on_unrunnable,
        is_unrunnable,
        known_ops,
        known_part,
        runnable_part,
        stand_ins,
        unrunnable_names,
        unrunnable_ops,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "apart_child": "timed",
            "apart_process": "Apart ApartRunner apart",
            "candidate_runs": "FileRuns file_runs",
            "child_process": "pipe python_command python_environment started",
            "child_runs": "Arrays Runs waiting",
            "input_values": "drawn role_of",
            "patience": "check_timeout float_seconds",
            "runner": "Kernels RESOLVERS Runner",
            "runner_pool": "RunnerPool",
            "unrunnable": "depends_on_unrunnable is_unrunnable known_ops known_part runnable_part stand_ins "
            "unrunnable_names unrunnable_ops",
        },
    )

__all__ = [
    "RESOLVERS",
    "Apart",
    "ApartRunner",
    "Arrays",
    "FileRuns",
    "Kernels",
    "Runner",
    "RunnerPool",
    "Runs",
    "apart",
    "check_timeout",
    "depends_on_unrunnable",
    "drawn",
    "file_runs",
    "float_seconds",
    "is_unrunnable",
    "known_ops",
    "known_part",
    "pipe",
    "python_command",
    "python_environment",
    "role_of",
    "runnable_part",
    "stand_ins",
    "started",
    "timed",
    "unrunnable_names",
    "unrunnable_ops",
    "waiting",
]
