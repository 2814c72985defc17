"""The operators of a file that a device does not run, by the lists of what each runtime has.

The list of TFLite Micro is that of `micro_mutable_op_resolver.h` in its sources; that of the Edge TPU is the table in
its documentation (https://coral.ai/docs/edgetpu/models-intro/#supported-operations). The limits of single operators
there, such as a RESHAPE that may not change the number of values, are not checked.
"""

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_fine.devices.table import Device

_MICRO = (
    "ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS "
    "BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE "
    "DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD "
    "FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS "
    "LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM "
    "MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_MAX RELU RELU6 RESHAPE "
    "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX "
    "SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF "
    "TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE "
)
MICRO = frozenset(_MICRO.split())
_EDGE_TPU = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION "
    "LOGISTIC UNIDIRECTIONAL_SEQUENCE_LSTM MAX_POOL_2D MAXIMUM MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX "
    "REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT "
    "SQUEEZE STRIDED_SLICE SUB SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV "
)
EDGE_TPU = frozenset(_EDGE_TPU.split())
FLOATS = frozenset({"float32", "float16", "int16"})  # what the Edge TPU leaves to the CPU


def not_running(graph: Graph, device: Device) -> list[str]:
    """Return why the device does not run a file, in lines; empty where nothing is known against it.

    Args:
        graph: the graph of the file.
        device: a row of the table.
    """
    problems: dict[str, int] = {}
    for (s, _), op in graph.ops():
        for problem in _of_operator(op, graph.subgraphs[s], device):
            problems[problem] = problems.get(problem, 0) + 1
    lines = [f"{problem} ({count} operator{'s' * (count != 1)})" for problem, count in problems.items()]
    if device.fixed_shapes:
        tensors = [graph.main.tensors[t] for t in graph.main.inputs]
        lines += [f"input {t.name} has no fixed shape" for t in tensors if -1 in t.dynamic_shape[1:]]
    return lines


def _of_operator(op: Op, subgraph: Subgraph, device: Device) -> list[str]:
    if device.name == "edgetpu":
        types = {subgraph.tensors[t].dtype for t in (*op.inputs, *op.outputs) if t != ABSENT} & FLOATS
        if op.label not in EDGE_TPU:
            return [f"{op.label} is not among its operators"]
        return [f"{op.label} computes {', '.join(sorted(types))}, not int8"] if types else []
    if "tflite-micro" in device.runtimes and op.label not in MICRO:
        return [f"TFLite Micro has no {op.label}"]
    return []
