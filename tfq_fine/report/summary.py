"""The report of a quantization: what every operator got, what it cost."""

from collections.abc import Sequence

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.check import sqnr
from tfq_converters.graph import ABSENT, Op, Subgraph
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import OpEncoding, QuantizedGraph, WeightCodes, simulated_weight
from tfq_converters.writer import Written
from tfq_fine.planning import FLOAT, Decision, Plan, touches_float
from tfq_fine.report.activations import ActivationRow
from tfq_fine.report.quantization import OpRow, QuantizationReport, TransformRow
from tfq_fine.request import WeightedSpec
from tfq_fine.weights import LARGE_WEIGHT


def summarize(
    quantized: QuantizedGraph,
    plan: Plan,
    written: Written,
    recipe: str,
    float_bytes: int,
    notes: Sequence[str],
    activations: tuple[ActivationRow, ...] = (),
    transforms: tuple[TransformRow, ...] = (),
) -> QuantizationReport:
    """Return one row per operator that quantization concerns, and the error per layer on the checked samples."""
    rows = []
    for key, op in quantized.graph.ops():
        subgraph, decision = quantized.graph.subgraphs[key[0]], plan.get(key, FLOAT)
        encoding = quantized.ops.get(key, OpEncoding("float"))
        if touches_float(op, subgraph):
            rows.append(_row(op, subgraph, encoding, decision))
            if rows[-1].bytes_before > LARGE_WEIGHT:
                flatbuffer.forget_pages()
    main = quantized.graph.main
    errors = tuple(
        (_place(main, op, t), written.checked.sqnr[t])
        for op in main.ops
        for t in op.outputs
        if t in written.checked.sqnr
    )
    return QuantizationReport(
        tuple(rows), recipe, written.nbytes, float_bytes, tuple(notes), errors, activations, transforms
    )


def _place(subgraph: Subgraph, op: Op, tensor: int) -> str:
    return op.layer or subgraph.tensors[tensor].name


def _row(op: Op, subgraph: Subgraph, encoding: OpEncoding, decision: Decision) -> OpRow:
    spec = decision.spec
    tensors = {t: subgraph.tensors[t] for t in op.inputs if t != ABSENT}
    before = sum(tensor.constant.nbytes for tensor in tensors.values() if tensor.is_constant)
    after = before
    pairs = []
    for slot, value in encoding.weights.items():
        original = tensors[op.inputs[slot]].constant
        after += (value.nbytes if isinstance(value, np.ndarray | WeightCodes) else 0) - original.nbytes
        pairs.append((original, simulated_weight(value).reshape(original.shape)))
    weights = ""
    if encoding.mode == "float16" and encoding.weights:
        weights = "float16"
    elif isinstance(spec, WeightedSpec) and any(a.slot in encoding.weights for a in weight_axes(op, subgraph)):
        weights = str(spec.weights)
    return OpRow(
        name=subgraph.tensors[op.outputs[0]].name if op.outputs else "",
        layer=op.layer,
        code=op.label,
        mode=encoding.mode,
        weights=weights,
        form=encoding.form if weights else "",
        activations=next((form.dtype for form in (*encoding.outputs.values(), *encoding.inputs.values())), ""),
        reason=decision.reason,
        sqnr_weights=sqnr(pairs[:1]) if pairs else None,
        bytes_before=before,
        bytes_after=after,
        algorithm=encoding.algorithm if weights else "",
    )
