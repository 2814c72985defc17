"""The facts about operators agree with the schema, with each other, and with what TensorFlow Lite computes."""

import ast
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from benchmarks.op_cases import BASE
from benchmarks.single_op import Case, float_run, float_types
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.operators.facts import FACTS, OperatorFacts, facts_of
from tfq_converters.operators.integer_kernels import OPS
from tfq_converters.operators.options import (
    ACTIVATIONS,
    FUSED,
    PADDINGS,
    fused_activation,
    padding_of,
    with_activation,
)
from tfq_converters.runtime.input_values import role_of
from tfq_fine.calibration.instrument import moved_from
from tfq_fine.variants.judging import judged

ROOT = Path(__file__).parents[3]


def test_every_row_is_an_operator_of_the_schema():
    names = {name for name in vars(schema.BuiltinOperator) if name.isupper()}
    assert set(FACTS) <= names


@pytest.mark.parametrize(("names", "enum"), [(ACTIVATIONS, schema.ActivationFunctionType), (PADDINGS, schema.Padding)])
def test_options_have_the_numbers_of_the_schema(names: tuple[str, ...], enum: type):
    assert {name: number for number, name in enumerate(names)} == {
        name: number for name, number in vars(enum).items() if name.isupper()
    }


def test_a_fused_activation_is_read_as_it_was_written():
    options = Options("Conv2DOptions", {"padding": 1, FUSED: 0})
    for name in ACTIVATIONS:
        op = Op("CONV_2D", (0, 1), (2,), with_activation(options, name))
        assert (fused_activation(op), padding_of(op)) == (name, "VALID")
    assert fused_activation(Op("TANH", (0,), (1,))) == "NONE"


def _run(case: Case, x: np.ndarray) -> np.ndarray:
    """What the float kernel makes of `x` in place of the case's first activation."""
    slot = facts_of(case.code).data_slots(len(case.inputs))[0]
    values = {}
    for s, operand in enumerate(case.inputs):
        if operand is not None:
            values[s] = operand if isinstance(operand, np.ndarray) else x if s == slot else np.ones(operand, np.float32)
    return np.asarray(float_run(case, values, float_types(case, OPS[case.code]))[0])


SHAPE = (1, 4, 6, 8)
RNG = np.random.default_rng(0)
X = RNG.normal(size=SHAPE).astype(np.float32)
ONE_INPUT = sorted(code for code in FACTS if code in BASE and code in OPS and facts_of(code).data in ((0,), (1,)))


def _case(code: str) -> Case | None:
    """A case of `code` on SHAPE; None where its shapes are made otherwise."""
    try:
        made = BASE[code](SHAPE)
    except (ValueError, IndexError, TypeError):
        return None
    slot = facts_of(code).data_slots(len(made.inputs))[0]
    return made if made.inputs[slot] == SHAPE else None


def _codes(fact: str) -> list[str]:
    found = [code for code in ONE_INPUT if getattr(FACTS[code], fact) and _case(code) is not None]
    assert found, f"no operator with the fact {fact!r} is tried"
    return found


@pytest.mark.parametrize("code", [code for code in ONE_INPUT if FACTS[code].moves == "one" and _case(code)])
def test_what_moves_values_makes_none(code: str):
    result = _run(_case(code), X)  # type: ignore[arg-type]
    assert np.isin(result, np.append(X, 0.0)).all()


@pytest.mark.parametrize("code", _codes("blends"))
def test_what_blends_stays_between_values(code: str):
    result = _run(_case(code), X)  # type: ignore[arg-type]
    assert X.min() <= result.min()
    assert result.max() <= X.max()
    assert not np.isin(result, X).all() or FACTS[code].largest


@pytest.mark.parametrize("code", _codes("averages"))
def test_what_averages_takes_shifts(code: str):
    """To a few roundings of values of magnitude 8: 2^-20 each."""
    case = _case(code)
    assert np.abs(_run(case, X + 4) - (_run(case, X) + 4)).max() < 2e-5  # type: ignore[arg-type]


@pytest.mark.parametrize("code", _codes("keeps_channels"))
def test_what_keeps_channels_scales_each_by_itself(code: str):
    """Powers of two round nothing, so that the results are equal."""
    case, scale = _case(code), 2.0 ** RNG.integers(-3, 4, SHAPE[-1]).astype(np.float32)
    assert np.array_equal(_run(case, X * scale), _run(case, X) * scale)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [code for code in FACTS if FACTS[code].clamps and _case(code)])
def test_clamps(code: str):
    low, high = FACTS[code].clamps  # type: ignore[misc]
    assert np.array_equal(_run(_case(code), 5 * X), np.clip(5 * X, low, high))  # type: ignore[arg-type]


def test_facts_go_together():
    for code, facts in FACTS.items():
        assert not (facts.limits and not facts.chooses), code
        assert not facts.pole or facts.positive is not None, code
        assert facts.bias is None or facts.linear, code
        assert facts.moves in ("", "one", "several"), code
        assert (facts.moves == "several") == (facts.moves != "" and (facts.data is None or len(facts.data) > 1)), code
        if facts.within_input and code in OPS:  # one encoding for the input and the results
            assert OPS[code].scales == "same", code
    assert facts_of("NO_SUCH_OPERATOR") == OperatorFacts()


def _chain(*ops: Op, constants: dict[int, np.ndarray] | None = None) -> Graph:
    """A graph over float tensors [2, 2]; tensor 0 is its input, the last one its output."""
    data = constants or {}
    count = 1 + max(t for op in ops for t in (*op.inputs, *op.outputs))
    tensors = [
        Tensor(f"t{t}", data[t].shape if t in data else (2, 2), "int32" if t in data else "float32", data=data.get(t))
        for t in range(count)
    ]
    return Graph((Subgraph("main", tuple(tensors), ops, (0,), (count - 1,)),))


AXIS = {1: np.array(0, np.int32)}


@pytest.mark.parametrize(
    ("mover", "kind"),
    [
        (Op("RESIZE_NEAREST_NEIGHBOR", (0, 1), (2,)), "probability"),
        (Op("SPLIT", (1, 0), (2,)), "probability"),
        (Op("TANH", (0,), (2,)), "plain"),
    ],
)
def test_generated_inputs_are_followed_through_what_moves_values(mover: Op, kind: str):
    graph = _chain(mover, Op("LOG", (2,), (3,)), constants=AXIS)
    assert role_of(graph.main, 0).kind == kind


@pytest.mark.parametrize(("code", "source"), [("GATHER", 0), ("AVERAGE_POOL_2D", 0), ("SPLIT", 0), ("MEAN", None)])
def test_one_range_serves_a_value_that_is_moved(code: str, source: int | None):
    inputs = (1, 0) if code == "SPLIT" else (0, 1)
    assert moved_from(_chain(Op(code, inputs, (2,)), constants=AXIS)).get(2) == source


@pytest.mark.parametrize(("maker", "scores"), [("ADD", None), ("TANH", 3)])
def test_a_mask_stays_one_when_it_is_split(maker: str, scores: int | None):
    """Masked scores are not judged by log-probabilities; SPLIT reads what it splits in its second slot."""
    first = Op("ADD", (0, 0), (2,)) if maker == "ADD" else Op("TANH", (0,), (2,))
    softmax = Op("SOFTMAX", (3,), (4,), Options("SoftmaxOptions", {"beta": 1.0}))
    (judge,) = judged(_chain(first, Op("SPLIT", (1, 2), (3,)), softmax, constants=AXIS))
    assert judge.tensor == (4 if scores is None else scores)


def test_no_other_module_has_a_set_of_operators():
    """A set of names at the top of a module is a fact that belongs here; what remains is listed with its reason."""
    names = {name for name in vars(schema.BuiltinOperator) if name.isupper()}
    allowed = {
        "tfq_fine/emulation/sums.py",  # whose order of additions XNNPACK is known to use
        "tfq_fine/emulation/interpreter.py",  # which are computed outside of its table
        "tfq_converters/reading/conversion/half_constants.py",  # which make float32 of float16
        "tfq_converters/kernels/costs.py",  # which are written as another
        "tfq_converters/kernels/consumers.py",  # of whose cells a rule speaks
    }
    found = set()
    for base, package in ((ROOT, "tfq_fine"), (ROOT / "converters", "tfq_converters")):
        for path in (base / package).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                value = getattr(node, "value", None) if isinstance(node, ast.Assign | ast.AnnAssign) else None
                if isinstance(value, ast.Call) and ast.unparse(value.func) == "frozenset" and value.args:
                    value = value.args[0]
                if isinstance(value, ast.Set | ast.Tuple):
                    words = [e.value for e in value.elts if isinstance(e, ast.Constant)]
                    if len(words) > 1 and names.issuperset(words):
                        found.add(str(path.relative_to(base)))
    assert found == allowed
