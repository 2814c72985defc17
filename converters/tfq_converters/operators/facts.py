"""Facts about operators that hold whatever kernel computes them: one row for each operator.

What integer kernels ask for, and get wrong, is in `integer_kernels`. An operator without a row has none of these facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Moves = Literal["", "one", "several"]
Pole = Literal["", "saturates", "fails"]


@dataclass(frozen=True)
class WeightAxes:
    """One constant operand of a linear operator."""

    slot: int
    channel: int  # axis of the output channels (rows, for a table)
    inputs: int | None  # axis of the inputs that share an output channel; None where the kernel has no such axis

    @property
    def input_axis(self) -> int:
        """The axis of the inputs that share an output channel.

        Raises:
            TypeError: the kernel has no such axis.
        """
        if self.inputs is None:
            raise TypeError("no inputs share an output channel of this kernel")
        return self.inputs


@dataclass(frozen=True)
class OperatorFacts:
    """The facts about one operator.

    Attributes:
        data: slots of the activations, and of constants in the place of one; None for all slots.
        linear: it multiplies its data with weights and adds up.
        weights: its constants that are quantized as weights.
        bias: slot of the bias that is corrected, scaled and shifted together with the weights. CONV_3D may have one
            too, which stays what it is: no integer kernel reads it, and the window has other axes than in CONV_2D.
        weight_slots: slots that may hold a kernel of a Keras layer; None for those of `weights`.
        moves: its results are values of "one" input or of "several", in other places, or zeros.
        blends: its results lie between values of its one input, and its kernels leave them in the encoding of that.
        averages: its results are sums of values whose factors add up to 1, so that f(x + b) = f(x) + b.
        largest: its results are the largest of several values, so that it commutes with increasing functions.
        keeps_channels: each channel (of the last axis) is computed from that channel alone, and f(s x) = s f(x), s > 0.
        adds: it adds or subtracts its operands, value by value.
        affine: with one constant operand it scales or shifts the other.
        limits: its results are the larger or the smaller of two operands.
        chooses: each result is a value of one of its operands, in the same place.
        clamps: (lowest, highest) between which it limits its input.
        positive: slot whose values must be positive, or not negative, for a finite result.
        pole: what its integer kernels do where the value at `positive` is 0, for which there is no finite result.
        steep: a small step of its input may move its result far, so that it alone may take more than 8 bits.
        rounds: it makes whole numbers of its input, still in float.
        elementwise: it broadcasts its operands to one shape and computes each result from the values in one place.
        control_flow: it runs other subgraphs.
        recurrent: it reads what it wrote in the step before.
        table: it looks rows up by their indices.
        reads_shape: it reads the shape of its input alone, in whatever type the values are held.
    """

    data: tuple[int, ...] | None = (0,)
    linear: bool = False
    weights: tuple[WeightAxes, ...] = ()
    bias: int | None = None
    weight_slots: tuple[int, ...] | None = None
    moves: Moves = ""
    blends: bool = False
    averages: bool = False
    largest: bool = False
    keeps_channels: bool = False
    adds: bool = False
    affine: bool = False
    limits: bool = False
    chooses: bool = False
    clamps: tuple[float, float] | None = None
    positive: int | None = None
    pole: Pole = ""
    steep: bool = False
    rounds: bool = False
    elementwise: bool = False
    control_flow: bool = False
    recurrent: bool = False
    table: bool = False
    reads_shape: bool = False

    @property
    def within_input(self) -> bool:
        """Whether one range serves its input and its results; that of the results may be shorter."""
        return self.moves == "one" or self.blends

    @property
    def selects(self) -> bool:
        """Whether a condition chooses between two operands."""
        return self.chooses and not self.limits

    @property
    def joins(self) -> bool:
        """Whether several operands meet in one result, whose scale is too coarse for one much smaller than another."""
        return self.adds or self.limits or self.moves == "several"

    @property
    def weight(self) -> int | None:
        """Slot of the weight of a linear operator that may have a bias; None for all other operators."""
        return None if self.bias is None else self.weights[0].slot

    @property
    def channel_axis(self) -> int | None:
        """Axis of that weight with one scale for each index."""
        return None if self.bias is None else self.weights[0].channel

    @property
    def input_axis(self) -> int | None:
        """Axis of that weight along which inputs are added up; None where an output channel sees one input channel."""
        return None if self.bias is None else self.weights[0].inputs

    @property
    def slots_of_weights(self) -> tuple[int, ...]:
        """The slots that may hold a kernel of a Keras layer."""
        return tuple(axes.slot for axes in self.weights) if self.weight_slots is None else self.weight_slots

    def data_slots(self, inputs: int) -> tuple[int, ...]:
        """Return the slots of activations of an operator with so many inputs."""
        slots = range(inputs) if self.data is None else self.data
        return tuple(slot for slot in slots if slot < inputs)


def _linear(channel: int, inputs: int | None, bias: int | None = None, data: int = 0) -> OperatorFacts:
    """Return a linear operator with its weights at slot 1, from their axes of output channels and of inputs."""
    return OperatorFacts((data,), linear=True, weights=(WeightAxes(1, channel, inputs),), bias=bias)


_MOVES = OperatorFacts(moves="one")
_COMPARES = OperatorFacts(None, elementwise=True)
_LIMITS = OperatorFacts(None, limits=True, chooses=True, elementwise=True)
_SELECTS = OperatorFacts((1, 2), moves="several", chooses=True, elementwise=True)

FACTS: Mapping[str, OperatorFacts] = {
    # linear; the shapes of weights are those of the file
    "FULLY_CONNECTED": _linear(0, 1, bias=2),  # [N, K]
    "CONV_2D": _linear(0, 3, bias=2),  # [O, h, w, I]
    "DEPTHWISE_CONV_2D": _linear(3, None, bias=2),  # [1, h, w, C]
    "TRANSPOSE_CONV": _linear(0, 3, bias=3, data=2),  # [O, h, w, I]
    "CONV_3D": _linear(4, 3),  # [d, h, w, I, O]
    "CONV_3D_TRANSPOSE": OperatorFacts((2,), weight_slots=(1,)),
    "BATCH_MATMUL": OperatorFacts(  # [..., K, N]; [..., N, K] when adjY
        None, linear=True, weights=(WeightAxes(1, -1, -2),), weight_slots=(0, 1)
    ),
    "GATHER": OperatorFacts(weights=(WeightAxes(0, 0, 1),), moves="one", table=True),  # [rows, depth]
    "EMBEDDING_LOOKUP": OperatorFacts((1,), weight_slots=(1,), table=True),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": OperatorFacts(
        weights=tuple(WeightAxes(slot, 0, 1) for slot in range(1, 9)), recurrent=True
    ),
    "UNIDIRECTIONAL_SEQUENCE_RNN": OperatorFacts(weight_slots=(1, 2), recurrent=True),
    # one value from the operands in one place
    "ADD": OperatorFacts(None, adds=True, affine=True, elementwise=True),
    "SUB": OperatorFacts(None, adds=True, affine=True, elementwise=True),
    "MUL": OperatorFacts(None, affine=True, elementwise=True),
    "DIV": OperatorFacts(None, positive=1, pole="fails", steep=True),
    "POW": OperatorFacts(None, positive=0, steep=True),
    "FLOOR_DIV": OperatorFacts(None),
    "FLOOR_MOD": OperatorFacts(None, elementwise=True),
    "SQUARED_DIFFERENCE": OperatorFacts(None),
    "MAXIMUM": _LIMITS,
    "MINIMUM": _LIMITS,
    "SELECT": _SELECTS,
    "SELECT_V2": _SELECTS,
    "CAST": OperatorFacts(elementwise=True),
    "LOGICAL_AND": _COMPARES,
    "LOGICAL_OR": _COMPARES,
    "EQUAL": _COMPARES,
    "NOT_EQUAL": _COMPARES,
    "LESS": _COMPARES,
    "LESS_EQUAL": _COMPARES,
    "GREATER": _COMPARES,
    "GREATER_EQUAL": _COMPARES,
    "EXP": OperatorFacts(steep=True),
    "LOG": OperatorFacts(positive=0, pole="saturates", steep=True),
    "RSQRT": OperatorFacts(positive=0, pole="saturates", steep=True),
    "SQRT": OperatorFacts(positive=0, steep=True),
    "FLOOR": OperatorFacts(rounds=True),
    "ROUND": OperatorFacts(rounds=True),
    "CEIL": OperatorFacts(rounds=True),
    "RELU": OperatorFacts(clamps=(0.0, float("inf")), keeps_channels=True),
    "RELU6": OperatorFacts(clamps=(0.0, 6.0)),
    "RELU_N1_TO_1": OperatorFacts(clamps=(-1.0, 1.0)),
    "RELU_0_TO_1": OperatorFacts(clamps=(0.0, 1.0)),
    "LEAKY_RELU": OperatorFacts(keeps_channels=True),
    "PRELU": OperatorFacts((0, 1)),
    # one value from several in one input
    "MEAN": OperatorFacts(averages=True),
    "AVERAGE_POOL_2D": OperatorFacts(blends=True, averages=True, keeps_channels=True),
    "MAX_POOL_2D": OperatorFacts(blends=True, largest=True, keeps_channels=True),
    "RESIZE_BILINEAR": OperatorFacts(blends=True, averages=True),
    "RESIZE_NEAREST_NEIGHBOR": OperatorFacts(moves="one", averages=True, keeps_channels=True),
    # values in other places
    "RESHAPE": _MOVES,
    "SQUEEZE": _MOVES,
    "EXPAND_DIMS": _MOVES,
    "TRANSPOSE": _MOVES,
    "SLICE": _MOVES,
    "STRIDED_SLICE": _MOVES,
    "SPLIT": OperatorFacts((1,), moves="one"),
    "SPLIT_V": _MOVES,
    "UNPACK": _MOVES,
    "PAD": OperatorFacts(moves="one", keeps_channels=True),
    "MIRROR_PAD": _MOVES,
    "DEPTH_TO_SPACE": _MOVES,
    "SPACE_TO_DEPTH": _MOVES,
    "BATCH_TO_SPACE_ND": _MOVES,
    "SPACE_TO_BATCH_ND": _MOVES,
    "TILE": _MOVES,
    "BROADCAST_TO": _MOVES,
    "REVERSE_V2": _MOVES,
    "REVERSE_SEQUENCE": _MOVES,
    "GATHER_ND": _MOVES,
    "MATRIX_DIAG": _MOVES,
    "CONCATENATION": OperatorFacts(None, moves="several"),
    "PACK": OperatorFacts(None, moves="several"),
    "PADV2": OperatorFacts((0, 2), moves="several"),
    "DYNAMIC_UPDATE_SLICE": OperatorFacts((0, 1), moves="several"),
    "MATRIX_SET_DIAG": OperatorFacts((0, 1), moves="several"),
    "SCATTER_ND": OperatorFacts((1,)),
    "SPARSE_TO_DENSE": OperatorFacts((2, 3)),
    "FILL": OperatorFacts((1,)),
    "ONE_HOT": OperatorFacts((2, 3)),
    # others
    "SHAPE": OperatorFacts(reads_shape=True),
    "RANK": OperatorFacts(reads_shape=True),
    "WHILE": OperatorFacts(None, control_flow=True),
    "IF": OperatorFacts(None, control_flow=True),
    "CALL": OperatorFacts(None, control_flow=True),
    "CALL_ONCE": OperatorFacts(None, control_flow=True),
}
_NONE = OperatorFacts()


def facts_of(code: str) -> OperatorFacts:
    """Return the facts about the operator that the schema calls `code`.

    >>> facts_of("TRANSPOSE_CONV").data, facts_of("TRANSPOSE_CONV").bias, facts_of("ABS").linear
    ((2,), 3, False)
    """
    return FACTS.get(code, _NONE)
