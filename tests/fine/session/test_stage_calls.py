"""Each stage of a job computes once for each graph, plan or placement, however many variants the search tries."""

from typing import Any

import tfq_fine as tfq
from benchmarks.stage_calls import counted
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer

ONCE = ("moved_from", "ranges", "place", "encodings", "groups")  # for each graph that is tried


def calls(**options: Any) -> dict[str, int]:
    """How often each stage computes."""
    content = flatbuffer.write(small_cnn())
    with counted() as stages:
        tfq.quantize(content, "full_int8", images(8), prefer="size", **options)
    return {name: stage.calls for name, stage in stages.items()}


def test_variants_that_differ_in_their_biases_share_all_else():
    made = calls(transforms=("bias_correction",))
    assert made["numbers"] >= 4  # as many variants
    assert made["plan"] == made["calibrate"] == 1
    assert {name: made[name] for name in ONCE} == dict.fromkeys(ONCE, 1)
    weights = [op for op in small_cnn().main.ops if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert made["solve"] == len(weights)


def test_a_rewritten_graph_costs_each_stage_once_more():
    made = calls()
    graphs = made["plan"]
    assert graphs >= 2 and made["numbers"] > graphs
    assert {name: made[name] for name in ONCE} == dict.fromkeys(ONCE, graphs)
    assert made["calibrate"] <= graphs + 2  # and what channels look like, on a few samples and on all
