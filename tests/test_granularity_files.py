"""Every mode, width and granularity, as a file that passes the run check."""

import numpy as np
import pytest

import tfq_fine as tfq
from benchmarks.granularity_settings import BITS, MODES, spec
from graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_fine.granularity import Blocks, ChannelGroups, PerChannel, PerTensor

GRANULARITIES = (PerTensor(), ChannelGroups(4), PerChannel(), Blocks(3))
DATA = images(8)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=repr)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefer", ["size", "speed"])
def test_file_computes_its_numbers(mode, bits, granularity, prefer):
    """The sides are coprime with the groups: 7 channels, and 5 in two groups of 4."""
    recipe = tfq.Recipe("asked", spec(mode, bits, granularity), flexible=True)
    result = tfq.quantize(flatbuffer.write(small_cnn()), recipe, DATA, prefer=prefer)
    assert result.content  # the run check has passed


def test_bias_of_groups_has_the_scales_of_its_channels() -> None:
    """Two groups of five channels are four and one, not three and two."""
    recipe = tfq.Recipe("groups", spec("integer", 8, ChannelGroups(4)))
    main = tfq.quantize(flatbuffer.write(small_cnn()), recipe, DATA).graph.main
    dense = next(op for op in main.ops if op.code == "FULLY_CONNECTED")
    weight, bias = (main.tensors[t].quantization for t in dense.inputs[1:])
    assert weight is not None and bias is not None
    ratios = bias.scale / weight.scale
    assert len(ratios) == 5
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)  # all of them the scale of the input
