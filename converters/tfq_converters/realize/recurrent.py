"""The fused LSTM in integers: its states are codes too, and it has intermediates, which the float one does without."""

from dataclasses import replace

from tfq_converters.graph import Op, Tensor
from tfq_converters.graph_edit import encoded
from tfq_converters.operators import CELL, HIDDEN
from tfq_converters.quantized import OpEncoding
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder


def integer_lstm(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """Emit `op` over int8 weights, with h in int8 and c in int16.

    The kernel reads the encoding of h before a projection from its fifth intermediate; there is no projection, so that
    it is that of the output. The other four are of gates before their normalization, which is not there either.
    """
    inputs = []
    for slot, tensor in enumerate(op.inputs):
        if slot in encoding.weights:
            inputs.append(builder.weight(tensor, encoding.weights[slot]))
        elif slot in (HIDDEN, CELL):
            inputs.append(builder.new(encoded(builder.source.tensors[tensor], encoding.inputs[slot])))
        else:
            inputs.append(builder.value(tensor, encoding.inputs.get(slot, FLOAT)))
    (target,), form = op.outputs, encoding.outputs[0]
    name = builder.source.tensors[target].name
    unused = [Tensor(f"{name}/gate{n}", (0,), "float32") for n in range(4)]
    hidden = encoded(Tensor(f"{name}/hidden", (0,), "float32"), form)
    intermediates = tuple(builder.new(tensor) for tensor in (*unused, hidden))
    output = (builder.output(target, form),)
    builder.add(replace(op, inputs=tuple(inputs), outputs=output, intermediates=intermediates))
    return True
