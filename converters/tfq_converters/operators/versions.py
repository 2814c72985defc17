"""The oldest runtime that knows the operator versions of a file, for its `min_runtime_version` metadata.

The float file states what its own operators need; only the versions that quantization brings are listed here
(TensorFlow's release notes of the registered versions).
"""

from tfq_converters.graph import Graph

METADATA = "min_runtime_version"
LENGTH = 16  # bytes, padded with zeros
BASELINE = "2.3.0"  # signed int8 kernels with int16 activations; every integer version not listed below is older

RUNTIMES: dict[tuple[str, int], str] = {
    ("ADD", 3): "2.4.0",
    ("ADD", 4): "2.6.0",
    ("SUB", 4): "2.4.0",
    ("SUB", 5): "2.4.0",
    ("ABS", 2): "2.5.0",
    ("ABS", 3): "2.5.0",
    ("ARG_MAX", 3): "2.9.0",
    ("BATCH_MATMUL", 3): "2.4.0",
    ("BATCH_MATMUL", 4): "2.5.0",
    ("BROADCAST_TO", 2): "2.5.0",
    ("BROADCAST_TO", 3): "2.5.0",
    ("CONV_2D", 5): "2.4.0",
    ("CONV_2D", 6): "2.9.0",
    ("CONV_2D", 7): "2.11.0",
    ("CONV_2D", 8): "2.15.0",
    ("DEPTH_TO_SPACE", 2): "2.5.0",
    ("DEPTHWISE_CONV_2D", 6): "2.4.0",
    ("DEPTHWISE_CONV_2D", 7): "2.11.0",
    ("DEQUANTIZE", 5): "2.7.0",
    ("DEQUANTIZE", 6): "2.11.0",
    ("DEQUANTIZE", 7): "2.21.0",
    ("EMBEDDING_LOOKUP", 4): "2.17.0",
    ("EMBEDDING_LOOKUP", 5): "2.21.0",
    ("EXP", 2): "2.12.0",
    ("FULLY_CONNECTED", 10): "2.11.0",
    ("FULLY_CONNECTED", 11): "2.15.0",
    ("FULLY_CONNECTED", 12): "2.17.0",
    ("FULLY_CONNECTED", 13): "2.18.0",
    ("FULLY_CONNECTED", 14): "2.21.0",
    ("GATHER", 4): "2.4.0",
    ("GATHER", 5): "2.5.0",
    ("GATHER", 7): "2.13.0",
    ("GATHER_ND", 3): "2.5.0",
    ("GELU", 2): "2.9.0",
    ("MEAN", 3): "2.4.0",
    ("MIRROR_PAD", 3): "2.12.0",
    ("MUL", 5): "2.6.0",
    ("PAD", 3): "2.4.0",
    ("PAD", 4): "2.6.0",
    ("PADV2", 3): "2.4.0",
    ("PADV2", 4): "2.6.0",
    ("QUANTIZE", 3): "2.7.0",
    ("REDUCE_MAX", 3): "2.5.0",
    ("REDUCE_MIN", 3): "2.5.0",
    ("RELU", 3): "2.5.0",
    ("RELU6", 3): "2.5.0",
    ("RESIZE_BILINEAR", 4): "2.5.0",
    ("RESIZE_NEAREST_NEIGHBOR", 4): "2.4.0",
    ("REVERSE_V2", 3): "2.5.0",
    ("RSQRT", 2): "2.5.0",
    ("RSQRT", 3): "2.12.0",
    ("SLICE", 4): "2.4.0",
    ("SLICE", 5): "2.5.0",
    ("SQUARED_DIFFERENCE", 2): "2.5.0",
    ("SPACE_TO_BATCH_ND", 4): "2.12.0",
    ("BATCH_TO_SPACE_ND", 4): "2.12.0",
    ("STRIDED_SLICE", 5): "2.5.0",
    ("STRIDED_SLICE", 6): "2.6.0",
    ("TILE", 3): "2.8.0",
    ("TRANSPOSE", 5): "2.4.0",
    ("TRANSPOSE", 6): "2.12.0",
    ("TRANSPOSE_CONV", 4): "2.13.0",
    ("TRANSPOSE_CONV", 5): "2.15.0",
}


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def min_runtime_version(graph: Graph, stated: bytes | None) -> bytes:
    """Return the metadata entry for `graph`: the newest of what the float file `stated` and its operators need."""
    versions = [stated.rstrip(b"\0").decode()] if stated and stated.rstrip(b"\0") else []
    versions += [RUNTIMES.get((op.code, op.version), BASELINE) for _, op in graph.ops() if op.version > 1]
    newest = max(versions, key=_order, default="1.5.0")
    return newest.encode().ljust(LENGTH, b"\0")
