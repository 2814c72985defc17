"""Error against size over the hierarchy of granularities: `python -m benchmarks.granularity_figure NUMBERS FIGURE`.

NUMBERS is what `python -m benchmarks.granularity --output NUMBERS` wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.granularity_settings import BITS, GRANULARITIES

MODE = "weight_only"  # in which every operator takes every width
LABELS = {"per_tensor": "per-tensor", "groups8": "groups of 8", "per_channel": "per-channel"} | {
    f"blocks{size}": f"blocks of {size}" for size in (128, 32)
}
TITLES = {"resnet8": "ResNet-8, CIFAR-10", "efficientnet_lite0_cifar10": "EfficientNet-Lite0, CIFAR-10 probe"}
MARKERS = dict(zip(GRANULARITIES, "sv^oD", strict=True))
COLOURS = {8: "#1f5fa8", 4: "#c1461b", 2: "#5b8c2a"}


def draw(numbers: Mapping[str, Any], path: str | Path) -> None:
    """One panel for each model, one line for each width; the mix is a star."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    from matplotlib import pyplot

    cases = list(numbers["float_bytes"])
    figure, axes = pyplot.subplots(1, len(cases), figsize=(4.6 * len(cases), 3.6), squeeze=False, layout="constrained")
    for axis, case in zip(axes[0], cases, strict=True):
        files = {row["setting"]: row["ours"] for row in numbers["rows"] if row["case"] == case and row["ours"]}
        _panel(axis, case, files, numbers["float_bytes"][case])
    axes[0][0].set_ylabel("output error, dB to the float output")
    handles = [
        axes[0][0].plot([], [], marker, color="0.4", label=LABELS[name])[0] for name, marker in MARKERS.items()
    ] + [axes[0][0].plot([], [], "*", color="0.1", markersize=11, label="mixed 8/4 bits")[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
    pyplot.close(figure)


def _panel(axis: Any, case: str, files: Mapping[str, Mapping[str, Any]], float_bytes: int) -> None:
    for bits in BITS:
        names = [name for name in GRANULARITIES if f"{MODE}-int{bits}-{name}" in files]
        points = [_point(files[f"{MODE}-int{bits}-{name}"], float_bytes) for name in names]
        if not points:
            continue
        axis.plot(*zip(*points, strict=True), color=COLOURS[bits], linewidth=1.2, zorder=1)
        for name, (x, y) in zip(names, points, strict=True):
            axis.plot(x, y, MARKERS[name], color=COLOURS[bits], markersize=5)
        last = max(points)
        axis.annotate(f"{bits} bits", last, xytext=(7, -3), textcoords="offset points", color=COLOURS[bits])
    if f"{MODE}-mixed" in files:
        axis.plot(*_point(files[f"{MODE}-mixed"], float_bytes), "*", color="0.1", markersize=11)
    axis.set_title(f"{TITLES.get(case, case)} (float: {float_bytes / 1e6:.2f} MB)", fontsize=9)
    axis.set_xlabel("file size, % of float")
    axis.grid(color="0.9", linewidth=0.6)
    axis.margins(x=0.17)


def _point(file: Mapping[str, Any], float_bytes: int) -> tuple[float, float]:
    return 100 * file["bytes"] / float_bytes, -file["sqnr_db"]


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
