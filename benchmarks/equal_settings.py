"""Output SQNR against every algorithm of litert-quantizer, at equal settings: `python -m benchmarks.equal_settings`.

Both tools quantize the same operators to the same bits, granularity and borders, from the same calibration samples;
the algorithms differ. "Best" of litert-quantizer is the best that any of its algorithms and calibrations reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import tfq_fine as tfq
from benchmarks.arguments import names_of, parser, work_folder
from benchmarks.equal_settings_peer import peer_tools
from benchmarks.evaluation import outputs
from benchmarks.file_outputs import outputs_apart
from benchmarks.float_files import Files, prepared
from benchmarks.granularity_files import border, float_codes, tfq_graph
from benchmarks.tables import Table, present, progress
from benchmarks.tool_run import ToolFailed, run_tool
from benchmarks.zoo import CASES
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.variants import chosen_transforms

MEASURED = (
    *("resnet8", "small_mobilenet_v2", "efficientnet_lite0_cifar10"),
    *("text_transformer", "dense_net"),
)
CALIBRATION = 100  # samples
TEST, FEW = 2000, {"efficientnet_lite0_cifar10": 200}  # test samples, and of cases that take long
_INT4, _INT8 = tfq.WeightSpec(4), tfq.WeightSpec(8)
_DYNAMIC_BLOCKS = tfq.OpSpec("dynamic", tfq.WeightSpec(4, tfq.Blocks(32)))
_DENSE = "FULLY_CONNECTED"
RECIPES: dict[str, tfq.Recipe] = {
    "int8": tfq.RECIPES["full_int8"],
    "w4": tfq.RECIPES["weight_only_int4"],
    "w4_block32": tfq.RECIPES["weight_only_int4"].with_rules(tfq.Rule(_DYNAMIC_BLOCKS, op=_DENSE)),
    "w4a8": tfq.RECIPES["full_w4a8"],
    "w2_dense": tfq.Recipe("w2_dense", None).with_rules(tfq.Rule(tfq.OpSpec("dynamic", tfq.WeightSpec(2)), op=_DENSE)),
}
ALGORITHMS = {  # ours -> theirs of the same name
    "round_to_nearest": "min_max",
    "mse_clip": "mse",
    "octav": "octav",
    "gptq": "gptq",
}
TRANSFORMS = tuple(name for name in chosen_transforms("auto") if name != "islands")  # no operator in float alone
EQUAL_SIZE = 1.05  # times litert-quantizer's smallest file: a larger one is not of equal size


@dataclass(frozen=True)
class Row:
    """One algorithm of one tool, at one setting of one case."""

    case: str
    setting: str
    tool: str  # "tfq_fine" or "litert"
    algorithm: str
    sqnr_db: float | None  # None where there is no file, or it does not run; NaN where an output is NaN
    bytes: int = 0
    failure: str = ""


def measure(case: str, settings: Sequence[str], algorithms: Sequence[str], work: Path) -> Iterator[Row]:
    """Yield one row for every algorithm of both tools at every setting."""
    files = prepared(case, work)
    samples = files.test()[: FEW.get(case, TEST)]
    expected = outputs(files.tflite, samples)

    def row(setting: str, tool: str, algorithm: str, path: Path) -> Row:
        values = outputs_apart(path, files.folder / "test.npy", len(samples))
        if isinstance(values, str):
            return Row(case, setting, tool, algorithm, None, path.stat().st_size, values)
        return Row(case, setting, tool, algorithm, _sqnr(expected, values), path.stat().st_size)

    for setting in settings:
        example: Path | None = None
        for algorithm, tool in peer_tools(setting).items():
            path = work / f"{case}-{tool}.tflite"
            try:
                run_tool(tool, files, path, CALIBRATION)
            except ToolFailed as failed:
                yield Row(case, setting, "litert", algorithm, None, failure=str(failed).strip().splitlines()[-1])
                continue
            example = example or path
            yield row(setting, "litert", algorithm, path)
        for algorithm in algorithms:
            path = work / f"{case}-equal-{setting}-{algorithm}.tflite"
            try:
                path.write_bytes(ours(files, setting, algorithm, example))
            except TfqError as error:
                yield Row(case, setting, "tfq_fine", algorithm, None, failure=str(error))
                continue
            yield row(setting, "tfq_fine", algorithm, path)


def ours(files: Files, setting: str, algorithm: str, peer: Path | None) -> bytes:
    """Return our file of the operators, and with the borders, of the peer's.

    Args:
        files: the case.
        setting: a name in `RECIPES`.
        algorithm: "fast", "balanced" or "best", which leave the choice to us, or a name in `ALGORITHMS`.
        peer: one of its files; None where it made none.
    """
    recipe, borders = RECIPES[setting], {}
    if peer is not None:
        graph = flatbuffer.read(str(peer))
        mode = "integer" if recipe.default is not None and recipe.default.mode == "integer" else "weight_only"
        kept = float_codes(tfq_graph(files), graph, mode) if recipe.default is not None else []
        recipe = recipe.with_rules(*(tfq.Rule(None, op=code) for code in kept))
        borders = {"input_type": border(graph, graph.main.inputs), "output_type": border(graph, graph.main.outputs)}
    quality = algorithm if algorithm in ("fast", "balanced", "best") else "fast"
    if algorithm != quality:
        recipe = _without_correction(recipe.with_algorithm(algorithm))
    borders = {name: dtype for name, dtype in borders.items() if dtype in ("int8", "uint8", "int16")}
    data = files.calibration()[:CALIBRATION]
    return tfq.quantize(
        str(files.tflite),
        recipe,
        data,
        quality=quality,  # type: ignore[arg-type]
        prefer="size",
        transforms=TRANSFORMS,
        **borders,
    ).content


def _without_correction(recipe: tfq.Recipe) -> tfq.Recipe:
    """Return the recipe without corrected biases, which the peer does not have."""

    def plain(spec: tfq.OpSpec | None) -> tfq.OpSpec | None:
        return None if spec is None else spec.with_weights(bias_correction=False)  # type: ignore[attr-defined]

    rules = tuple(replace(rule, spec=plain(rule.spec)) for rule in recipe.rules)
    return replace(recipe, default=plain(recipe.default), rules=rules)


def _sqnr(expected: np.ndarray, values: np.ndarray) -> float:
    return ErrorSums.of(expected, values).sqnr_db if np.isfinite(values).all() else math.nan


def best_of(rows: Sequence[Row]) -> Row | None:
    """Return the row of largest SQNR among those that have one."""
    fit = [row for row in rows if row.sqnr_db is not None and row.sqnr_db == row.sqnr_db]
    return max(fit, key=lambda row: row.sqnr_db or -math.inf, default=None)


def table(rows: Sequence[Row]) -> Table:
    """Return one line per case and setting."""
    lines = []
    ours_named = list(dict.fromkeys(row.algorithm for row in rows if row.tool == "tfq_fine"))
    for case, setting in dict.fromkeys((row.case, row.setting) for row in rows):
        here = [row for row in rows if (row.case, row.setting) == (case, setting)]
        mine = {row.algorithm: row for row in here if row.tool == "tfq_fine"}
        peers = [row for row in here if row.tool == "litert"]
        peers = [row for row in peers if row.bytes <= EQUAL_SIZE * min(row.bytes or math.inf for row in peers)]
        best, cells = best_of(peers), []
        for name in ours_named:
            same = best_of([r for r in peers if r.algorithm.split(",")[0] == ALGORITHMS.get(name)])
            cells.append(_text(mine.get(name)) + (f" / {_text(same)}" if name in ALGORITHMS else ""))
        told = "–" if best is None else f"{_text(best)} ({best.algorithm})"
        bytes_each = "–" if best is None else f"{mine[ours_named[0]].bytes:,} / {best.bytes:,}"
        lines.append((case, setting, told, *cells, bytes_each))
    columns = ("model", "setting", "litert-quantizer's best", *(_header(name) for name in ours_named), "bytes")
    notes = (
        f"SQNR of the outputs in dB, tfq_fine / theirs; {CALIBRATION} calibration and {TEST} test samples ({FEW}).",
        "Same operators, bits, granularity and borders. Biases are corrected in the columns without an algorithm.",
        "w4_block32: dense layers dynamic in blocks of 32, others weight-only per channel. w2_dense: those alone.",
    )
    return Table("Equal settings, every algorithm", columns, tuple(lines), notes)


def _header(name: str) -> str:
    return f"{name} / {ALGORITHMS[name]}" if name in ALGORITHMS else name


def _text(row: Row | None) -> str:
    if row is None or row.sqnr_db is None:
        return "–"
    return "NaN" if row.sqnr_db != row.sqnr_db else f"{row.sqnr_db:.2f}"


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    choices = ("fast", "balanced", "best", *ALGORITHMS)
    arguments.add_argument("--settings", type=names_of(RECIPES), default=list(RECIPES), help="comma-separated")
    arguments.add_argument("--algorithms", type=names_of(choices), default=["balanced", *ALGORITHMS], help="ours")
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, options.settings, options.algorithms, work):
                progress(f"{row}")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
