"""Where a file must run: what is refused for it, what is taken instead, and that the file then runs there."""

from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph
from tfq_converters.kernels.queries import Target
from tfq_converters.kernels.table import Cell, Run, load, save
from tfq_converters.probe.build import job
from tfq_converters.probe.run import present
from tfq_converters.probe.runtimes import opener
from tfq_converters.runtime.runner import Runner
from tfq_fine.placement import float_islands as placement
from tfq_fine.planning import Plan, Policy, make_plan
from tfq_fine.request.granularity import ChannelGroups, PerChannel, PerTensor
from tfq_fine.request.presets import RECIPES
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

MICRO = Target(("tflite-micro",))
LAYERS = {0: "conv", 1: "depthwise", 3: "dense"}  # of `small_cnn`, those with weights


def policy(target: Target | None = None, flexible: bool = False) -> Policy:
    return Policy("size", flexible, target or Target())


def plan_of(spec: OpSpec, target: Target | None = None, flexible: bool = False) -> Plan:
    """A plan of `small_cnn` in which every operator is asked for `spec`."""
    graph = small_cnn()
    return make_plan(graph, {key: spec for key, _ in graph.ops()}, policy(target, flexible))


def weights_of(plan: Plan) -> dict[str, tuple[str, int, object]]:
    """layer -> mode, bits and granularity of its weights."""
    specs = {LAYERS[o]: plan[0, o].spec for o in LAYERS}
    return {
        name: (spec.mode, spec.weights.bits, spec.weights.granularity)
        for name, spec in specs.items()
        if spec is not None and spec.weights is not None
    }


def test_everything_that_a_runtime_cannot_compute_is_in_one_error():
    with pytest.raises(TfqError) as raised:
        plan_of(OpSpec("weight_only", WeightSpec(8)), MICRO)
    first, *lines = str(raised.value).splitlines()
    assert first == "3 problems:"
    for layer, line in zip(LAYERS.values(), lines, strict=True):
        assert line.startswith(f"  - {layer} (")
        assert "on tflite-micro (silently wrong" in line
        assert line.endswith("nearest: int8 per-tensor in mode weight_only")


FALLBACKS = {
    "weight-only on Micro": (
        OpSpec("weight_only", WeightSpec(8)),
        MICRO,
        dict.fromkeys(LAYERS.values(), ("weight_only", 8, PerTensor())),
    ),
    "dynamic on Micro": (
        OpSpec("dynamic", WeightSpec(8)),
        MICRO,
        dict.fromkeys(LAYERS.values(), ("weight_only", 8, PerTensor())),
    ),
    "w4a8 on Micro": (
        OpSpec("integer", WeightSpec(4), ActivationSpec(8)),
        MICRO,
        {
            "conv": ("integer", 4, PerChannel()),
            "depthwise": ("integer", 4, PerChannel()),
            "dense": ("integer", 4, PerTensor()),
        },
    ),
    "int2 on the fly": (
        OpSpec("dynamic", WeightSpec(2)),
        None,
        {
            "conv": ("weight_only", 2, PerChannel()),
            "depthwise": ("weight_only", 2, PerChannel()),
            "dense": ("dynamic", 2, PerChannel()),
        },
    ),
    "int4 groups with int16": (
        OpSpec("integer", WeightSpec(4, ChannelGroups(7)), ActivationSpec(16)),
        None,
        {
            "conv": ("integer", 4, ChannelGroups(7)),
            "depthwise": ("integer", 8, ChannelGroups(7)),
            "dense": ("integer", 4, ChannelGroups(7)),
        },
    ),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_a_fallback_takes_the_nearest_and_says_why(case):
    spec, target, expected = FALLBACKS[case]
    with pytest.raises(TfqError, match="nearest: "):
        plan_of(spec, target)
    plan = plan_of(spec, target, flexible=True)
    assert weights_of(plan) == expected
    for o, layer in LAYERS.items():
        given = plan[0, o].spec
        assert given is not None
        assert (" weights " in plan[0, o].reason) == (given != spec), layer


def test_what_no_runtime_computes_is_no_error():
    """CONV_3D has no dynamic kernel anywhere: it stores its weights, which the report tells. Micro does not have it."""
    graph = small_cnn()
    ops = tuple(replace(op, code="CONV_3D") if op.code == "CONV_2D" else op for op in graph.main.ops)
    graph = Graph((replace(graph.main, ops=ops),), graph.signatures)
    requested = {key: OpSpec("dynamic", WeightSpec(8)) if key == (0, 0) else None for key, _ in graph.ops()}
    decision = make_plan(graph, requested)[0, 0]
    assert decision.spec == OpSpec("weight_only", WeightSpec(8))
    assert decision.reason.startswith("CONV_3D has no dynamic kernel")
    with pytest.raises(TfqError, match=r"CONV_3D has no dynamic kernel .* on tflite-micro; nearest: float"):
        make_plan(graph, requested, policy(MICRO))
    assert make_plan(graph, requested, policy(MICRO, True))[0, 0].spec is None


def test_asymmetric_weights_become_symmetric_where_only_those_are_computed():
    spec = OpSpec("dynamic", WeightSpec(8, symmetric=False))
    with pytest.raises(TfqError, match="use symmetric=True"):
        plan_of(spec)
    plan = plan_of(spec, flexible=True)
    assert plan[0, 0].spec == OpSpec("dynamic", WeightSpec(8))
    assert "asymmetric" in plan[0, 0].reason


@pytest.mark.parametrize("prefer", ["speed", "size"])
@pytest.mark.parametrize("recipe", ["full_int8", "full_int16x8", "weight_only_int8"])
def test_a_file_for_micro_runs_there(recipe, prefer):
    """In codes of the softmax, whose steps are those of its output; in float, by the tolerance of float sums."""
    if "tflite-micro" not in present():
        pytest.skip("tflite-micro is not installed")
    border = {"full_int8": "int8", "full_int16x8": "int16"}.get(recipe, "float32")
    result = tfq.quantize(
        write(small_cnn()), recipe, images(8), runtimes="tflite-micro", on_unsupported="fallback", prefer=prefer,
        input_type=border, output_type=border,
    )  # fmt: skip
    modes = {decision.spec.mode for decision in result.plan.values() if decision.spec is not None}
    assert modes == {"weight_only" if border == "float32" else "integer"}
    tensor = result.graph.main.tensors[result.graph.main.inputs[0]]
    sample = images(1, seed=3)
    if tensor.quantization is not None:
        sample = np.rint(sample / tensor.quantization.scale + tensor.quantization.zero_point).astype(border)
    micro = opener("tflite-micro")(result.content)
    micro.feed([sample])
    micro.invoke()
    gap = np.abs(micro.output().astype(np.float64) - Runner(result.content, "reference").run([sample])[0])
    assert gap.max() <= {"int8": 1, "int16": 2, "float32": 1e-6}[border]


def test_islands_do_not_store_what_the_runtime_misreads(monkeypatch):
    """An operator that leaves the integers for speed has float weights there, since Micro reads one scale of many."""
    monkeypatch.setattr(placement, "_islands", lambda graph, ops, pinned, table: set(ops))
    expected = {("litert",): {"weight_only"}, ("litert", "tflite-micro"): {None}}
    for runtimes, modes in expected.items():
        result = tfq.quantize(write(small_cnn()), "full_int8", images(8), runtimes=runtimes)
        specs = [result.plan[0, o].spec for o in LAYERS]
        assert {spec and spec.mode for spec in specs} == modes


def test_runtimes_and_table_are_looked_at_first(tmp_path):
    with pytest.raises(TfqError, match="found 'onnx'"):
        tfq.quantize("no.keras", runtimes=("litert", "onnx"))
    with pytest.raises(TfqError, match="found 'onnx'"):
        tfq.quantize("no.keras", runtimes="onnx")
    with pytest.raises(TfqError, match=r"no.json cannot be read"):
        tfq.quantize("no.keras", kernels=tmp_path / "no.json")


def test_another_table_decides(tmp_path):
    cell = Cell("FULLY_CONNECTED", "", "dynamic", 8, "per_channel")
    runs = {**load().cells[cell], "tflite": Run("wrong", "off by 9 steps")}
    save(replace(load(), cells={**load().cells, cell: runs}), tmp_path / "mine.json")
    given = {"kernels": tmp_path / "mine.json", "prefer": "size"}
    with pytest.raises(TfqError, match=r"dense \(FULLY_CONNECTED\).*on tflite \(silently wrong: off by 9 steps\)"):
        tfq.quantize(write(small_cnn()), "dynamic_int8", **given)
    result = tfq.quantize(write(small_cnn()), "dynamic_int8", on_unsupported="fallback", **given)
    assert weights_of(result.plan)["dense"] == ("dynamic", 8, PerTensor())
    assert "off by 9 steps" in str(result.report)
    assert "meant for" not in str(result.report)
    other = tfq.quantize(write(small_cnn()), "dynamic_int8", runtimes="litert")
    assert "meant for litert" in str(other.report)


@pytest.mark.parametrize(
    ("recipe", "weights"),
    [("dynamic_int8", "int8 per-tensor"), ("weight_only_int8", "int8 per-channel")],
)
def test_a_fused_lstm_is_quantized_as_its_kernels_read_it(recipe, weights):
    """Several scales are silently wrong on the fly, and right after a DEQUANTIZE."""
    result = tfq.quantize(job(Cell("UNIDIRECTIONAL_SEQUENCE_LSTM", "", "float", 32, "")).content, recipe)
    assert [row.weights for row in result.report.rows if row.code == "UNIDIRECTIONAL_SEQUENCE_LSTM"] == [weights]


def test_the_presets_need_no_fallback():
    graph = small_cnn()
    for recipe in RECIPES.values():
        if not recipe.flexible:
            make_plan(graph, recipe.resolve(graph))
