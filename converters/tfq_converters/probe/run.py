"""Tries cells on every runtime that is installed: builds files, runs them in child processes, judges the answers."""

import json
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.files import temporary_folder
from tfq_converters.kernels import VARIANTS, Cell, KernelTable, Run
from tfq_converters.probe.build import Job, job
from tfq_converters.probe.cases import CELLS, float_cell
from tfq_converters.probe.runtimes import installed
from tfq_converters.probe.verdict import crash, judge, reason
from tfq_converters.runtime import pipe, started

Runs = dict[str, Run]  # runtime variant -> run
FEATURES = {"avx512_vnni": "AVX512-VNNI", "avx512f": "AVX512", "avx2": "AVX2", "asimddp": "NEON dot product"}


def present(variants: Iterable[str] = VARIANTS) -> tuple[str, ...]:
    """Return the names in `variants` whose runtime is installed."""
    versions = installed()
    return tuple(variant for variant in variants if VARIANTS[variant].distribution in versions)


def measured_on() -> dict[str, str]:
    """Return the versions of the runtimes, and the machine."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    best = next((name for flag, name in FEATURES.items() if flag in flags), "")
    return {**installed(), "machine": f"{platform.machine()} {best}".strip()}


def probe(
    base: KernelTable,
    variants: Sequence[str] | None = None,
    cells: Iterable[Cell] = CELLS,
    timed: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> KernelTable:
    """Return `base` with its cells measured again on this machine.

    Args:
        base: keeps its costs, which are not measured here.
        variants: the variants of the runtimes; all that are installed when None.
        cells: which to try.
        timed: measure times too.
        progress: called with the variant's name after each file.
    """
    jobs = {cell: job(cell) for cell in cells}
    twins = {cell: twin for cell in jobs if (twin := float_cell(cell)) in jobs and timed}
    results = run_jobs(jobs, present() if variants is None else variants, twins, progress)
    return replace(base, cells=results, cells_on=measured_on())


def run_jobs(
    jobs: Mapping[Cell, Job],
    variants: Sequence[str],
    twins: Mapping[Cell, Cell] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[Cell, Runs]:
    """Return cell -> variant -> what came of it.

    Args:
        jobs: what to try.
        variants: on which runtimes.
        twins: cell -> the cell of `jobs` that its time is relative to; no times are taken of the others.
        progress: called with the variant's name after each file.
    """
    numbers = {cell: str(number) for number, cell in enumerate(jobs)}
    with temporary_folder() as here:
        for cell, job in jobs.items():
            (here / f"{numbers[cell]}.tflite").write_bytes(job.content)
            np.savez(here / f"{numbers[cell]}.npz", *job.inputs)
        described = {
            numbers[cell]: {"result": job.result, "twin": numbers.get((twins or {}).get(cell))}  # type: ignore[arg-type]
            for cell, job in jobs.items()
        }
        (here / "jobs.json").write_text(json.dumps(described))
        results: dict[Cell, Runs] = {cell: {} for cell in jobs}
        by_number = {number: cell for cell, number in numbers.items()}
        for variant in variants:
            for number, report in _reports(here, variant, list(by_number)):
                cell = by_number[number]
                results[cell][variant] = _run(here, variant, number, report, jobs[cell])
                progress(variant)
    return results


Report = dict[str, Any] | int  # what the child says of a file, or how it died of it: minus the signal, or the exit code


def _reports(here: Path, variant: str, numbers: list[str]) -> Iterator[tuple[str, Report]]:
    """Yield every file's report. A file on which the process of many dies is tried in one of its own."""
    while numbers:
        done, died = 0, 0
        for item in _child(here, variant, numbers):
            if isinstance(item[1], int):
                died = item[1]
                break
            done += 1
            yield item
        if not died:
            return
        number, numbers = numbers[done], numbers[done + 1 :]
        yield next(_child(here, variant, [number]))


def _child(here: Path, variant: str, numbers: list[str]) -> Iterator[tuple[str, Report]]:
    """Yield the reports of one process; the last one is an exit code when it died.

    Raises:
        TfqError: the process does not get as far as the first file.
    """
    said, module = here / f"{variant}.txt", "tfq_converters.probe.child"
    said.unlink(missing_ok=True)
    with started(module, here, subprocess.PIPE, variant, *numbers, errors=said.name, site=True) as child:
        answers = pipe(child.stdout)
        try:
            for number in numbers:
                began, report = answers.readline(), answers.readline()
                if not began:
                    raise TfqError(f"{variant} cannot be probed: its process ends with {child.wait()}\n{_end(said)}")
                if not report.endswith(b"\n"):
                    yield number, child.wait() or 1
                    return
                yield number, json.loads(report)
        finally:
            child.kill()  # which Ctrl-C does not reach


def _end(said: Path) -> str:
    return said.read_text(errors="replace")[-800:]


def _run(here: Path, variant: str, number: str, report: Report, given: Job) -> Run:
    if isinstance(report, int):
        return crash(report)
    if "refuses" in report:
        return Run("refuses", reason(report["refuses"], report["said"]))
    with np.load(here / f"{variant}_{number}.npz", allow_pickle=False) as content:
        problem = next(filter(None, (judge(content[name], given.answer) for name in content.files)), "")
    if problem:
        return Run("wrong", problem, report["delegated"])
    ratio = None if report["ratio"] is None else float(f"{report['ratio']:.3g}")
    return Run("correct", "", report["delegated"], ratio)
