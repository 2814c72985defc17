"""A float graph that computes what the numbers of a quantized one say: weights dequantized, activations rounded.

Where `simulate` runs operators alone, this runs the whole model, with all that errors do on their way through it. It
needs no integer kernel, so that any numbers can be tried in the user's own process.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Options, Quantization, Tensor
from tfq_converters.quantized import ActivationEncoding, OpEncoding, QuantizedGraph
from tfq_converters.simulate import simulated_bodies, with_weights


def float_simulation(quantized: QuantizedGraph) -> Graph:
    """The graph; its inputs and outputs are those of the float graph. Dynamic-range inputs are not rounded."""
    main = quantized.graph.main
    rounding = _Rounding(list(main.tensors))
    ops: list[Op] = []
    for o, op in enumerate(main.ops):
        encoding = quantized.ops.get((0, o), OpEncoding("float"))
        changed = with_weights(op, encoding, rounding.tensors)
        inputs = list(changed.inputs)
        for slot, form in encoding.inputs.items():
            if slot not in encoding.weights and inputs[slot] != ABSENT and not main.tensors[inputs[slot]].is_variable:
                inputs[slot] = rounding.read(inputs[slot], form)
        outputs = [rounding.written(t, encoding.outputs.get(slot)) for slot, t in enumerate(op.outputs)]
        ops += rounding.pending_reads()
        ops.append(replace(changed, inputs=tuple(inputs), outputs=tuple(outputs)))
        ops += rounding.pending_writes()
    subgraph = replace(main, tensors=tuple(rounding.tensors), ops=tuple(ops))
    return replace(quantized.graph, subgraphs=(subgraph, *simulated_bodies(quantized)), signatures=())


class _Rounding:
    """Tensors beside their rounded selves."""

    def __init__(self, tensors: list[Tensor]):
        self.tensors = tensors
        self._held: dict[int, ActivationEncoding] = {}  # tensor -> the encoding that its value was rounded to
        self._rounded: dict[tuple[int, ActivationEncoding], int] = {}
        self._reads: list[Op] = []
        self._writes: list[Op] = []

    def read(self, t: int, form: ActivationEncoding) -> int:
        """Tensor `t` as an operator reads it."""
        if self._held.get(t) == form:
            return t
        if (t, form) not in self._rounded:
            target = self._new(t, "rounded", self.tensors[t].dtype)
            self._reads += self._round(t, form, target)
            self._rounded[t, form] = target
        return self._rounded[t, form]

    def written(self, t: int, form: ActivationEncoding | None) -> int:
        """Where an operator writes what becomes tensor `t` when it is rounded."""
        if form is None:
            return t
        source = self._new(t, "exact", self.tensors[t].dtype)
        self._writes += self._round(source, form, t)
        self._held[t] = form
        return source

    def pending_reads(self) -> list[Op]:
        """What has to run before the operator whose inputs were asked for."""
        found, self._reads = self._reads, []
        return found

    def pending_writes(self) -> list[Op]:
        """What has to run behind it."""
        found, self._writes = self._writes, []
        return found

    def _new(self, t: int, what: str, dtype: str, quantization: Quantization | None = None) -> int:
        name = f"{self.tensors[t].name}/{what}{len(self.tensors)}"
        self.tensors.append(replace(self.tensors[t], name=name, dtype=dtype, quantization=quantization))
        return len(self.tensors) - 1

    def _round(self, source: int, form: ActivationEncoding, target: int) -> list[Op]:
        quantization = Quantization(np.array([form.scale], np.float32), np.array([form.zero_point], np.int64))
        codes = self._new(source, "codes", form.dtype, quantization)
        quantize = Op("QUANTIZE", (source,), (codes,), Options("QuantizeOptions", {}))
        return [quantize, Op("DEQUANTIZE", (codes,), (target,), Options("DequantizeOptions", {}), 2)]
