"""The operators that the other tools run in int8 against the op table."""

import pytest

import converter_ops
from tfq_converters.op_table import OPS

# litert-quantizer 0.11.0, its static int8 policy
LITERT_QUANTIZER = """
ADD AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CONCATENATION CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV DIV
DYNAMIC_UPDATE_SLICE EQUAL FULLY_CONNECTED GATHER GATHER_ND GELU HARD_SWISH LOGISTIC MAXIMUM MAX_POOL_2D MEAN
MIRROR_PAD MUL NOT_EQUAL PACK PAD PADV2 REDUCE_MIN RELU RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT
SELECT SELECT_V2 SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE
UNPACK
"""
# TFLiteConverter 2.21, measured by `converter_ops`
CONVERTER = """
ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_TO CONCATENATION CONV_2D
DEPTHWISE_CONV_2D DEPTH_TO_SPACE DIV EQUAL EXP FILL FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL
HARD_SWISH L2_NORMALIZATION LEAKY_RELU LESS LESS_EQUAL LOG LOGISTIC LOG_SOFTMAX MATRIX_DIAG MATRIX_SET_DIAG
MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL ONE_HOT PACK PAD PADV2 REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU
RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RSQRT
SCATTER_ND SELECT SELECT_V2 SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPARSE_TO_DENSE SPLIT SPLIT_V SQRT
SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV
UNPACK
"""
# What peers were seen to run on models, beyond the single functions of `converter_ops`.
SEEN = frozenset({"PRELU", "SQUEEZE", "EXPAND_DIMS", "UNIDIRECTIONAL_SEQUENCE_LSTM"})
WRONG = {  # no right kernel, whoever writes the file
    "REDUCE_PROD": "the int8 kernel rescales after every factor: up to 255 steps off (tests/test_op_table.py)",
}
MISSING = {  # not written yet
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "TFLiteConverter runs the fused LSTM of tf_keras in int8; here it stays float over "
    "dynamic-range weights",
}


@pytest.mark.parametrize("code", sorted({*LITERT_QUANTIZER.split(), *CONVERTER.split(), *SEEN}))
def test_the_op_table_covers_what_other_tools_run_in_int8(code: str):
    covered = code in OPS and OPS[code].int8
    assert covered != (code in WRONG or code in MISSING)


def test_the_list_of_the_stock_converter_is_true():
    assert converter_ops.measured(list(converter_ops.table())) == set(CONVERTER.split())
