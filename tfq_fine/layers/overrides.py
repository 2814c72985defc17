"""Overrides: the wrappers' decisions about the operators of the converted model.

Each kernel is found among the constants of the file by its values, laid out as its operator wants it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np

from tfq_converters.errors import raise_all
from tfq_converters.graph import FloatArray, Graph, Op
from tfq_converters.operators import data_of, weight_axes
from tfq_converters.quantized import OpKey, QuantizedGraph, TensorKey, WeightCodes
from tfq_fine.activations import groups
from tfq_fine.calibration import Range, Statistics
from tfq_fine.layers.kernel import QuantizedKernel
from tfq_fine.layers.kernel_lookup import Place, find_places, is_of
from tfq_fine.numerics import affine
from tfq_fine.planning import Plan, Policy, make_plan
from tfq_fine.request import OpSpec


@dataclass(frozen=True)
class Overrides:
    """The wrappers' decisions about the operators of a graph."""

    requested: Mapping[OpKey, OpSpec]  # for operators with wrapped kernels, and those after them in their layers
    codes: Mapping[tuple[OpKey, int], WeightCodes] = field(default_factory=dict)  # by operator and slot
    forms: Mapping[OpKey, str] = field(default_factory=dict)
    held: Mapping[TensorKey, Sequence[Any]] = field(default_factory=dict)  # the ranges of wrappers, by their tensors
    read: Mapping[tuple[str, str], TensorKey] = field(
        default_factory=dict
    )  # path and kernel -> what its operator reads
    places: Mapping[tuple[OpKey, int], tuple[QuantizedKernel, Place]] = field(default_factory=dict)  # as `codes`

    @cached_property
    def ranges(self) -> Mapping[TensorKey, Range]:
        """The ranges that the wrappers hold now; one for all wrappers that read a tensor."""
        return {
            key: reduce(Range.union, (Range(*limits.limits()) for limits in held)) for key, held in self.held.items()
        }

    def merged(self, graph: Graph, plan: Plan, policy: Policy) -> Plan:
        """Return the plan with the decisions that the wrappers simulated.

        Raises:
            TfqError: the target of `policy` cannot hold what a wrapper simulated; all such layers are named.
        """
        rigid = replace(policy, flexible=False)
        own: dict[OpKey, OpSpec | None] = {key: self.requested.get(key) for key, _ in graph.ops()}
        decided = make_plan(graph, own, rigid)
        problems = []
        for key in self.requested:
            form = self.forms.get(key)
            spec = decided[key].spec
            if form is not None and (spec != self.requested[key] or decided[key].form != form):
                what = "float" if spec is None else f"{spec.weights} in mode {spec.mode} ({decided[key].form})"
                reason = f": {decided[key].reason}" if decided[key].reason else ""
                problems.append(
                    f"{graph.subgraphs[key[0]].op_name(key[1])} was simulated as {self.requested[key].weights} in mode "
                    f"{self.requested[key].mode} ({form}), but the file would have {what}{reason}"
                )
        raise_all(problems)
        return plan.but({key: decided[key] for key in self.requested})

    def changed(self, quantized: QuantizedGraph) -> list[str]:
        """Return notes on operators unlike their simulation: left in float, or with scales that had to be raised."""
        names = {key: quantized.graph.subgraphs[key[0]].op_name(key[1]) for key, _ in self.codes}
        lost = [key for key in names if key not in quantized.ops]
        raised = [
            key
            for (key, slot), codes in self.codes.items()
            if key not in lost and not _same(quantized.ops[key].weights[slot], codes)
        ]
        return [
            *(
                f"{names[key]} stays float in the file, although its wrapper simulated integers; the report says why"
                for key in lost
            ),
            *(
                f"{names[key]}: scales are larger than simulated, because its bias would overflow the kernel's sums"
                for key in raised
            ),
        ]

    def simulated(self, graph: Graph) -> Graph:
        """Return the float graph over the weights that the wrappers simulate: what its activations are in the file."""
        held: dict[int, dict[int, WeightCodes]] = {}  # by subgraph and tensor
        for ((s, o), slot), codes in self.codes.items():
            held.setdefault(s, {})[graph.subgraphs[s].ops[o].inputs[slot]] = codes
        subgraphs = [
            replace(
                subgraph,
                tensors=tuple(
                    replace(tensor, data=held[s][t].dequantize()) if t in held.get(s, {}) else tensor
                    for t, tensor in enumerate(subgraph.tensors)
                ),
            )
            for s, subgraph in enumerate(graph.subgraphs)
        ]
        return replace(graph, subgraphs=tuple(subgraphs))

    def with_ranges(self, graph: Graph, plan: Plan, statistics: Statistics | None) -> Statistics | None:
        """Return statistics with the wrappers' ranges, also for tensors that kernels tie to the same scale."""
        if statistics is None or not self.ranges:
            return statistics
        members = groups(graph, plan.integer_ops)
        by_root: dict[tuple[int, int], Range] = {}
        for node, root in members.items():
            own = self.ranges.get((0, node[0]))
            if own is not None:
                by_root[root] = by_root[root].union(own) if root in by_root else own
        tied = {(0, node[0]): by_root[root] for node, root in members.items() if root in by_root}
        return statistics.with_ranges({**tied, **self.ranges})


def collected(graph: Graph, wrappers: Mapping[str, Any]) -> Overrides:
    """Return the wrappers' specs, codes and ranges, for the operators of `graph`.

    Args:
        graph: the converted model.
        wrappers: the wrappers, by the paths of the layers that they wrap.

    Raises:
        TfqError: a kernel is not found in the graph; all are named.
    """
    decisions = _Collected(graph)
    for path, wrapper in wrappers.items():
        decisions.take(path, wrapper)
    raise_all(decisions.problems)
    return Overrides(
        decisions.requested, decisions.codes, decisions.forms, decisions.held, decisions.read, decisions.places
    )


class _Collected:
    """The wrappers' decisions, while they are put together."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.requested: dict[OpKey, OpSpec] = {}
        self.codes: dict[tuple[OpKey, int], WeightCodes] = {}
        self.forms: dict[OpKey, str] = {}
        self.held: dict[TensorKey, list[Any]] = {}
        self.read: dict[tuple[str, str], TensorKey] = {}
        self.places: dict[tuple[OpKey, int], tuple[QuantizedKernel, Place]] = {}
        self.problems: list[str] = []

    def take(self, path: str, wrapper: Any) -> None:
        """Take all that one wrapper decided; `path` is that of its layer."""
        inside = {key: op for key, op in self.graph.ops() if is_of(self.graph, key, path)}
        if wrapper.spec.mode == "integer":
            plain = [key for key, op in inside.items() if not weight_axes(op, self.graph.subgraphs[key[0]])]
            self.requested |= dict.fromkeys(plain, wrapper.spec)
        for kernel in wrapper.kernels:
            places = find_places(self.graph, kernel, path)
            if not places:
                self.problems.append(
                    f"layer {path!r}: its {kernel.kernel.variable} is no constant of a {kernel.kernel.op} in the "
                    "converted model, as its wrapper expects"
                )
            for place in places:
                self._take_kernel(path, wrapper, kernel, place)
        for tensor in _leaving(self.graph, inside) if wrapper.output_range is not None else ():
            self._hold(tensor, wrapper.output_range)

    def _take_kernel(self, path: str, wrapper: Any, kernel: QuantizedKernel, place: Place) -> None:
        """Take one place of one kernel, and the range of what its operator reads."""
        codes, key = _codes(place, wrapper, kernel), place.key
        if isinstance(codes, str):
            self.problems.append(f"layer {path!r}: {codes}")
            return
        self.places[key, place.slot] = kernel, place
        self.codes[key, place.slot], self.requested[key], self.forms[key] = codes, _exactly(kernel), kernel.plan.form
        tensor = data_of(op_at(self.graph, key))
        self.read.setdefault((path, kernel.kernel.variable), (key[0], tensor))
        read = self._range_of_what_it_reads(wrapper, kernel)
        if read is not None and key[0] == 0:
            self._hold(tensor, read)

    @staticmethod
    def _range_of_what_it_reads(wrapper: Any, kernel: QuantizedKernel) -> Any:
        """Return the range of what the operator of a kernel reads; None when no wrapper holds it."""
        reads = kernel.kernel.reads
        if reads is None or not wrapper.ranges:
            return kernel.inside
        return wrapper.ranges[reads if reads < len(wrapper.ranges) else -1]

    def _hold(self, tensor: int, found: Any) -> None:
        self.held.setdefault((0, tensor), []).append(found)


def _same(held: WeightCodes | FloatArray, codes: WeightCodes) -> bool:
    return isinstance(held, WeightCodes) and np.array_equal(held.dequantize(), codes.dequantize())


def op_at(graph: Graph, key: OpKey) -> Op:
    """Return the operator of a key."""
    return graph.subgraphs[key[0]].ops[key[1]]


def _exactly(kernel: QuantizedKernel) -> OpSpec:
    """Return the spec as simulated; a bias that was trained with these weights is not corrected for them."""
    return kernel.plan.spec.with_weights(bias_correction=False)


def _leaving(graph: Graph, inside: Mapping[OpKey, Op]) -> Iterator[int]:
    """Yield the float tensors that operators inside a layer make, and that others read."""
    main = graph.main
    readers = main.consumers()
    for key, op in inside.items():
        for tensor in op.outputs if key[0] == 0 else ():
            outside = [o for o, _ in readers.get(tensor, []) if (0, o) not in inside]
            if main.tensors[tensor].dtype == "float32" and (outside or tensor in main.outputs):
                yield tensor


def _codes(place: Place, wrapper: Any, kernel: QuantizedKernel) -> WeightCodes | str:
    """Return the codes of a constant: the kernel's, over its scales times the factor that the converter applied."""
    factor, channel = place.factor, place.channel
    scale, zero = wrapper.scales(kernel)
    encoded = place.of(affine.encode(kernel.coded_values, kernel.plan.block, scale, zero, kernel.plan.codes))
    if (factor == 1).all():
        return encoded
    if kernel.plan.block[channel] != 1 and len(np.unique(np.abs(factor))) > 1:
        return (
            f"batch norm scales the channels of its {kernel.kernel.variable} differently, but they share a scale; "
            "use one per channel, or fold batch norm before you wrap layers (tfq_fine.fold_batch_norm)"
        )
    along = [-1 if axis == channel else 1 for axis in range(scale.ndim)]
    each = (factor if kernel.plan.block[channel] == 1 else factor[:1]).reshape(along)
    product = scale * each
    turned = np.zeros(product.shape, bool) if kernel.plan.codes.signed_scales else product < 0
    if zero.any() and turned.any():
        return "batch norm turns the sign of asymmetric weights; fold it before you wrap layers"
    stored = affine.ROUNDED_SCALES[kernel.plan.codes.scales](np.where(turned, -product, product).astype(np.float32))
    signs = affine.per_block(np.where(turned, -1, 1).astype(encoded.codes.dtype))
    codes = affine.join(affine.split(encoded.codes, encoded.block) * signs, encoded.codes.shape)
    return replace(encoded, codes=codes, scale=stored)
