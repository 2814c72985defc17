"""The conditions that searches and analyses run under, and the model and the data that they start from."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from tfq_converters.kernels import Target
from tfq_converters.reading import Source
from tfq_converters.runtime import FileRuns, check_timeout, file_runs
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.progress import Stages, stages
from tfq_fine.request import Quality, check_options
from tfq_fine.session import open_model
from tfq_fine.verification import file_size
from tfq_fine.weights import CodesOnDisk


@dataclass(frozen=True)
class Conditions:
    """How layers are fitted and measured, checked.

    Attributes:
        quality: how much effort goes into the weights.
        target: where the file must run.
        num_samples: read at most this many samples.
        executor: fits and measures layers; this process when None.
        cache_dir: where codes and figures of layers are kept by content; None where they are kept nowhere.
        progress: whether progress is shown; None: on a terminal.
        safe_mode: Keras files that would run code by being opened are refused.
        timeout: seconds that one run of a file may take; None: by the float model's time.
    """

    quality: Quality = "balanced"
    target: Target = field(default_factory=Target)
    num_samples: int | None = None
    executor: Executor | None = None
    cache_dir: str | os.PathLike[str] | None = None
    progress: bool | None = None
    safe_mode: bool = True
    timeout: float | None = None

    @staticmethod
    def of(*, runtimes: str | Sequence[str], **others: Any) -> "Conditions":
        """Return conditions with runtimes by name.

        Raises:
            TfqError: an option has a value that it cannot have.
        """
        made = Conditions(target=Target((runtimes,) if isinstance(runtimes, str) else tuple(runtimes)), **others)
        check_options({"quality": (made.quality, get_args(Quality))}, {"num_samples": made.num_samples})
        check_timeout(made.timeout)
        return made

    @cached_property
    def on_disk(self) -> CodesOnDisk | None:
        """The codes and figures on disk; None where they are kept nowhere."""
        return None if self.cache_dir is None else CodesOnDisk(self.cache_dir)


@dataclass(frozen=True)
class Job:
    """A model that was read, its data, and what runs files and shows progress."""

    source: Source
    material: Representative
    shown: Stages
    files: FileRuns

    @property
    def float_bytes(self) -> int:
        """The size of the float file."""
        return file_size(self.source.content)


@contextmanager
def started(model: Any, data: Any, conditions: Conditions, caller: str) -> Iterator[Job]:
    """Read a model without wrappers.

    Args:
        model: any float model that `quantize` takes.
        data: representative samples, in any form that `quantize` takes.
        conditions: how it is read.
        caller: the function that does so, for messages.

    Raises:
        TfqError: bad data, or a model that cannot be read.
    """
    conditions.on_disk  # noqa: B018  # a folder that there cannot be is an error before any work
    opened = open_model(model, conditions.safe_mode)
    material = Representative(CalibrationData.of(data, conditions.num_samples, 1, "error", None, None, None))
    with stages(conditions.progress) as shown, file_runs(conditions.timeout) as files:
        with shown.stage("reading the model"):
            source = opened.read_plain(material.shapes, caller)
        yield Job(source, material, shown, files)
