"""Random operators of every row of the op table: shapes, options and ranges of values from a seed."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from benchmarks.op_cases import BASE, case, ints, options
from benchmarks.single_op import Case

Rng = np.random.Generator
SPREADS = 3.0  # decades of the ranges of values on each side of 1


def random_case(code: str, rng: Rng) -> Case:
    """Return one operator `code` with random shapes, options and ranges of its inputs."""
    make = SPECIAL.get(code)
    return _ranged(make(rng) if make else BASE[code](_shape(code, rng)), rng)


def _shape(code: str, rng: Rng) -> tuple[int, ...]:
    count = {"FULLY_CONNECTED": 3, "BATCH_MATMUL": 4, "CONV_2D": 6, "DEPTHWISE_CONV_2D": 5, "TRANSPOSE_CONV": 6}
    low, high = (1, 5) if code in count else (4, 11)
    dims = [int(rng.integers(low, high)) for _ in range(count.get(code, 4))]
    if code in {"FULLY_CONNECTED", "BATCH_MATMUL"}:
        dims[-2] = int(rng.integers(1, 200))
    if "CONV" in code:
        dims[1:3] = [int(rng.integers(4, 11)) for _ in range(2)]
        dims[-1] = int(rng.integers(1, 4))
    if (code in count and count[code] == 6) or code == "DEPTHWISE_CONV_2D":
        dims[3] = int(rng.integers(1, 20))
    if code not in count:
        dims[0] = int(rng.integers(1, 3))
    return tuple(dims)


def _ranged(given: Case, rng: Rng) -> Case:
    """Return ranges of values of one operator, of random decades and rarely centred."""
    if given.code in {"LOG", "SQRT", "RSQRT"}:
        high = 10 ** rng.uniform(-2, 3)
        return replace(given, low=high * 10 ** rng.uniform(-1.5, -0.3), high=high)
    if given.code == "DIV":
        high = 10 ** rng.uniform(-2, 2)
        return replace(given, low=-high, high=high, ranges={1: (high * rng.uniform(0.3, 0.8), high)}, result_range=None)
    if given.code == "EXP":
        return replace(given, low=-float(rng.uniform(1, 12)), high=float(rng.uniform(-1, 8)))
    size = 10 ** rng.uniform(-1, 1.5) if given.code in NEAR_ONE else 10 ** rng.uniform(-SPREADS, SPREADS)
    low, high = sorted(size * rng.uniform(-1, 1, 2))
    if rng.random() < 0.3:
        low = 0.0
    return replace(given, low=float(low), high=float(max(high, low + size / 10)))


NEAR_ONE = frozenset(
    {
        *("TANH", "LOGISTIC", "GELU", "ELU", "HARD_SWISH", "SOFTMAX", "LOG_SOFTMAX"),
        *("RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"),
        *("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL"),
    }
)


def _image(rng: Rng) -> tuple[int, ...]:
    return (int(rng.integers(1, 3)), int(rng.integers(1, 20)), int(rng.integers(1, 20)), int(rng.integers(1, 9)))


def _resize(code: str, kind: str) -> Callable[[Rng], Case]:
    def make(rng: Rng) -> Case:
        shape = _image(rng)
        size = [int(rng.integers(1, 50)) for _ in range(2)]
        if rng.random() < 0.5:
            factor = int(rng.integers(1, 5))
            size = [factor * shape[1], factor * shape[2]]
        mode = int(rng.integers(0, 3))
        fields = {"alignCorners": mode == 1, "halfPixelCenters": mode == 2}
        return case(code, shape, ints(*size), o=options(kind, **fields))

    return make


def _reduction(code: str) -> Callable[[Rng], Case]:
    def make(rng: Rng) -> Case:
        shape = _image(rng)
        axes = sorted(rng.choice(4, int(rng.integers(1, 4)), replace=False).tolist())
        return case(code, shape, ints(*axes), o=options("ReducerOptions", keepDims=bool(rng.random() < 0.5)))

    return make


def _pool(code: str) -> Callable[[Rng], Case]:
    def make(rng: Rng) -> Case:
        batch, height, width, depth = _image(rng)
        fields = dict(zip(("filterHeight", "filterWidth", "strideH", "strideW"), rng.integers(1, 5, 4), strict=True))
        shape = (batch, height + 4, width + 4, depth)
        fields = {name: int(value) for name, value in fields.items()}
        return case(code, shape, o=options("Pool2DOptions", padding=int(rng.integers(0, 2)), **fields))

    return make


def _classes(code: str, kind: str) -> Callable[[Rng], Case]:
    def make(rng: Rng) -> Case:
        shape = (int(rng.integers(1, 9)), int(2 ** rng.uniform(0.5, 9 if code == "L2_NORMALIZATION" else 11)))
        fields = {"beta": float(rng.uniform(0.3, 2.0))} if code == "SOFTMAX" else {}
        return case(code, shape, o=options(kind, **fields))

    return make


def _two(code: str, kind: str, **fields: object) -> Callable[[Rng], Case]:
    """Return two inputs of different ranges; sometimes the second is broadcast, sometimes an activation is fused."""

    def make(rng: Rng) -> Case:
        shape = _image(rng)
        other = tuple(1 if rng.random() < 0.3 else size for size in shape) if rng.random() < 0.5 else shape
        size = 10 ** rng.uniform(-2, 2)
        fused = {"fusedActivationFunction": int(rng.choice([0, 0, 1]))} if fields or code == "MUL" else {}
        ranges = {1: (-size * rng.uniform(0, 1), size)}
        return case(code, shape, other, o=options(kind, **fields, **fused) if kind else None, ranges=ranges)

    return make


SPECIAL: Mapping[str, Callable[[Rng], Case]] = {
    "RESIZE_BILINEAR": _resize("RESIZE_BILINEAR", "ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
    "SOFTMAX": _classes("SOFTMAX", "SoftmaxOptions"),
    "LOG_SOFTMAX": _classes("LOG_SOFTMAX", "LogSoftmaxOptions"),
    "L2_NORMALIZATION": _classes("L2_NORMALIZATION", "L2NormOptions"),
    "LEAKY_RELU": lambda rng: case(
        "LEAKY_RELU", _image(rng), o=options("LeakyReluOptions", alpha=float(rng.uniform(0, 2)))
    ),
    "GELU": lambda rng: case("GELU", _image(rng), o=options("GeluOptions", approximate=bool(rng.random() < 0.5))),
    "ADD": _two("ADD", "AddOptions", potScaleInt16=False),
    "SUB": _two("SUB", "SubOptions", potScaleInt16=False),
    "MUL": _two("MUL", "MulOptions"),
    "SQUARED_DIFFERENCE": _two("SQUARED_DIFFERENCE", ""),
    **{code: _reduction(code) for code in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")},
    **{code: _pool(code) for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
}
