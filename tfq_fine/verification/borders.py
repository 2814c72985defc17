"""The inputs and outputs of a quantized file, matched with those of the float graph, and the shapes that both take."""

from collections.abc import Sequence
from dataclasses import dataclass

from tfq_converters.errors import raise_all
from tfq_converters.graph import AnyArray, Graph
from tfq_fine.data import InputSpec, input_specs


@dataclass(frozen=True)
class Borders:
    """Both files are fed and read in the order of the float graph."""

    inputs: tuple[InputSpec, ...]  # those of the float graph, with the sizes that either file fixes
    output_names: tuple[str, ...]
    input_order: tuple[int, ...]  # for each input of the quantized file, its place in the float graph
    output_order: tuple[int, ...]  # for each output of the float graph, its place in the quantized file

    def to_quantized_inputs(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Return inputs, arrays of any type and shape, in the order of the quantized file."""
        return [inputs[place] for place in self.input_order]

    def to_float_outputs(self, outputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Return outputs of the quantized file, arrays of any type and shape, in the order of the float graph."""
        return [outputs[place] for place in self.output_order]


def match_borders(floating: Graph, quantized: Graph) -> Borders:
    """Pair inputs and outputs by name, or by position where the names are not the same ones.

    Raises:
        TfqError: the numbers of inputs or outputs, or the shapes of inputs, show that the two do not belong together.
    """
    ours, theirs = input_specs(floating), input_specs(quantized)
    names, quantized_names = [spec.name for spec in ours], [spec.name for spec in theirs]
    outputs, quantized_outputs = floating.output_names(), quantized.output_names()
    raise_all(
        f"the float model has {len(a)} {what} ({', '.join(a)}), the quantized file {len(b)} ({', '.join(b)})"
        for what, a, b in (("inputs", names, quantized_names), ("outputs", outputs, quantized_outputs))
        if len(a) != len(b)
    )
    places = _places(quantized_names, names)
    twins = dict(zip(places, theirs, strict=True))
    problems = [
        f"input {spec.name!r} is {spec} in the float model, {twins[place]} in the quantized file"
        for place, spec in enumerate(ours)
        if not _compatible(spec.shape, twins[place].shape)
    ]
    raise_all(problems)
    inputs = tuple(InputSpec(s.name, _narrowed(s.shape, twins[i].shape), s.dtype) for i, s in enumerate(ours))
    return Borders(inputs, tuple(outputs), places, _places(outputs, quantized_outputs))


def _places(names: Sequence[str], among: Sequence[str]) -> tuple[int, ...]:
    """Return, for each of `names`, its place in `among`; its own place when the two hold different names."""
    if set(names) == set(among) and len(set(names)) == len(names):
        return tuple(list(among).index(name) for name in names)
    return tuple(range(len(names)))


def _compatible(a: Sequence[int], b: Sequence[int]) -> bool:
    return len(a) == len(b) and all(x == y or -1 in (x, y) for x, y in zip(a, b, strict=True))


def _narrowed(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def same_shapes(names: Sequence[str], ours: Sequence[AnyArray], theirs: Sequence[AnyArray]) -> None:
    """Raise unless outputs of both files have the same shapes and can be compared.

    Raises:
        TfqError: the two files do not compute the same outputs, or outputs are no numbers.
    """
    problems = []
    for name, x, y in zip(names, ours, theirs, strict=True):
        if x.shape != y.shape:
            problems.append(f"output {name!r} has shape {x.shape} in the float model, {y.shape} in the quantized file")
        elif x.dtype.kind not in "biufc" or y.dtype.kind not in "biufc":
            problems.append(f"output {name!r} holds {x.dtype} and {y.dtype}, which cannot be compared")
    raise_all(problems, "" if len(problems) < 2 else "the two files do not belong together:")
