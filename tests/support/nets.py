"""Float graphs that grow operator by operator: no framework, no conversion."""

import numpy as np

from support.graphs import CONV, DENSE
from tfq_converters.graph import ABSENT, Graph, Op, Options, Subgraph, Tensor

POOL = {
    "padding": 1, "strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2, "fusedActivationFunction": 0,
}  # fmt: skip


class Net:
    """A graph that grows operator by operator; every method returns the tensor that it makes."""

    def __init__(self, *shape: int):
        self.rng = np.random.default_rng(0)
        self.tensors = [Tensor("x", shape, "float32")]
        self.ops: list[Op] = []

    def constant(self, data: np.ndarray) -> int:
        self.tensors.append(Tensor(f"c{len(self.tensors)}c", data.shape, data.dtype.name, data=data))
        return len(self.tensors) - 1

    def random(self, *shape: int) -> int:
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def weight(self, *shape: int, inputs: int | None = None) -> int:
        """A weight whose size differs from one group of inputs to the next, for all readers alike."""
        data = self.rng.uniform(-1, 1, shape)
        if inputs is not None:
            sizes = np.resize(np.repeat([0.3, 2.0, 1.0], 16), shape[inputs])
            data *= sizes.reshape([-1 if axis == inputs else 1 for axis in range(len(shape))])
        return self.constant(data.astype(np.float32))

    def add(self, code: str, inputs: tuple[int, ...], shape: tuple[int, ...], options: Options | None = None) -> int:
        """An operator of a layer of its own: `conv_2d_a` is the first."""
        layer = f"{code.lower()}_{chr(97 + len(self.ops))}"
        self.tensors.append(Tensor(f"net/{layer}/output", shape, "float32"))
        output = len(self.tensors) - 1
        self.ops.append(Op(code, inputs, (output,), options, layer=layer))
        return output

    def shape(self, t: int) -> tuple[int, ...]:
        return self.tensors[t].shape

    def dense(self, x: int, channels: int, fused: int = 0, bias: bool = True) -> int:
        weight = self.weight(channels, self.shape(x)[-1], inputs=1)
        inputs = (x, weight, self.random(channels) if bias else ABSENT)
        options = Options("FullyConnectedOptions", DENSE | {"fusedActivationFunction": fused, "keepNumDims": True})
        return self.add("FULLY_CONNECTED", inputs, (*self.shape(x)[:-1], channels), options)

    def conv(self, x: int, channels: int, fused: int = 0, window: int = 3, groups: int = 1) -> int:
        inputs = (
            x,
            self.weight(channels, window, window, self.shape(x)[-1] // groups, inputs=3),
            self.random(channels),
        )
        options = Options("Conv2DOptions", CONV | {"fusedActivationFunction": fused})
        return self.add("CONV_2D", inputs, (*self.shape(x)[:-1], channels), options)

    def depthwise(self, x: int) -> int:
        inputs = (x, self.random(1, 3, 3, self.shape(x)[-1]), self.random(self.shape(x)[-1]))
        values = {k: v for k, v in CONV.items() if k != "quantizedBiasType"} | {"depthMultiplier": 1}
        return self.add("DEPTHWISE_CONV_2D", inputs, self.shape(x), Options("DepthwiseConv2DOptions", values))

    def transposed(self, x: int, channels: int) -> int:
        batch, height, width, inputs = self.shape(x)
        shape = (batch, 2 * height, 2 * width, channels)
        values = {"padding": 0, "strideW": 2, "strideH": 2, "fusedActivationFunction": 0, "quantizedBiasType": 0}
        size = self.constant(np.array(shape, np.int32))
        operands = (size, self.weight(channels, 3, 3, inputs, inputs=3), x, self.random(channels))
        return self.add("TRANSPOSE_CONV", operands, shape, Options("TransposeConvOptions", values))

    def product(self, x: int, channels: int) -> int:
        """BATCH_MATMUL with a constant on the right."""
        *outer, inputs = self.shape(x)
        values = {"adjX": False, "adjY": False, "asymmetricQuantizeInputs": False}
        weight = self.random(inputs, channels)
        return self.add("BATCH_MATMUL", (x, weight), (*outer, channels), Options("BatchMatMulOptions", values))

    def gather(self, ids: int, rows: int, depth: int) -> int:
        options = Options("GatherOptions", {"axis": 0, "batchDims": 0})
        return self.add("GATHER", (self.random(rows, depth), ids), (*self.shape(ids), depth), options)

    def simple(self, code: str, x: int) -> int:
        return self.add(code, (x,), self.shape(x))

    def with_constant(self, code: str, x: int, constant: int, first: bool = False) -> int:
        values = {"fusedActivationFunction": 0} | ({} if code == "MUL" else {"potScaleInt16": False})
        options = Options(f"{code.capitalize()}Options", values)
        return self.add(code, (constant, x) if first else (x, constant), self.shape(x), options)

    def sum(self, x: int, y: int) -> int:
        return self.with_constant("ADD", x, y)

    def pool(self, x: int, code: str) -> int:
        batch, height, width, channels = self.shape(x)
        return self.add(code, (x,), (batch, height // 2, width // 2, channels), Options("Pool2DOptions", POOL))

    def mean(self, x: int) -> int:
        inputs = (x, self.constant(np.array([1, 2], np.int32)))
        shape = (self.shape(x)[0], self.shape(x)[-1])
        return self.add("MEAN", inputs, shape, Options("ReducerOptions", {"keepDims": False}))

    def pad(self, x: int, *pads: tuple[int, int]) -> int:
        shape = tuple(size + sum(pad) for size, pad in zip(self.shape(x), pads, strict=True))
        return self.add("PAD", (x, self.constant(np.array(pads, np.int32))), shape, Options("PadOptions", {}))

    def reshape(self, x: int, *shape: int) -> int:
        options = Options("ReshapeOptions", {"newShape": np.array(shape, np.int32)})
        return self.add("RESHAPE", (x, self.constant(np.array(shape, np.int32))), shape, options)

    def graph(self, *outputs: int) -> Graph:
        return Graph((Subgraph("main", tuple(self.tensors), tuple(self.ops), (0,), outputs),))
