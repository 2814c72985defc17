"""Calibration of wrapped models: scales from the weights, ranges from representative data.

A tensor gets the statistics and the range that `quantize` gives it in the float model: the wrappers are taken off a
copy, which is converted and calibrated as any model, and each wrapper is given the ranges of its tensors. So are codes
of algorithms that read inputs (`fitting`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.kernels import Target
from tfq_converters.reading import keras_call, read_model
from tfq_fine.activations import activation_needs
from tfq_fine.activations import search_ranges as automatic
from tfq_fine.calibration import Range, Representative, Statistics, mean_needs
from tfq_fine.data import InputSpec, batches
from tfq_fine.layers.barrier import without_marks
from tfq_fine.layers.export import taken_apart
from tfq_fine.layers.fitting import fit_to_inputs, fitted_plan
from tfq_fine.layers.overrides import Overrides
from tfq_fine.layers.wrapped import require_wrappers
from tfq_fine.planning import Plan, Policy, make_plan
from tfq_fine.request import OpSpec
from tfq_fine.weights import plan_needs

BATCH = 32  # samples per call of the Keras model


@dataclass(frozen=True)
class Converted:
    """A wrapped model, and the float graph in it."""

    model: Any
    graph: Graph
    plan: Plan
    overrides: Overrides
    wrappers: Mapping[str, Any]  # by path


def converted(model: Any) -> Converted:
    """Return the float graph in a wrapped model, and where its wrappers are in it.

    Raises:
        TfqError: the model holds no wrappers, or cannot be converted.
    """
    for wrapper in require_wrappers(model):
        wrapper.build_like_call()
    apart = taken_apart(model)
    source = read_model(apart.model)
    graph = without_marks(source.graph)
    overrides = apart.overrides(graph)
    requested: dict[Any, OpSpec | None] = {key: None for key, _ in graph.ops()}
    requested |= apart.annotated.resolve(graph, source.layers) if apart.annotated else {}
    plan = make_plan(graph, requested | dict(overrides.requested), Policy("size", True, Target()))
    return Converted(model, graph, plan, overrides, apart.wrappers)


def calibrate_wrappers(
    found: Converted, data: Representative, advance: Callable[[int], None] | None = None
) -> Statistics:
    """Set the scales of all wrappers from their weights, and the ranges of activations from `data`.

    Args:
        found: the wrapped model.
        data: representative samples.
        advance: called with the number of samples after each run.

    Returns:
        The statistics of the float model.

    Raises:
        TfqError: the data holds no samples, or a tensor becomes NaN or infinite.
    """
    _observe(found, data)
    graph, plan, overrides = found.graph, found.plan, found.overrides
    held = {t for _, t in overrides.held}
    fits = fitted_plan(graph, overrides, plan)
    if fits is not None:
        needs = plan_needs(graph, fits, bool(fits.integer_ops))
    else:
        needs = activation_needs(graph, plan, held) if held else mean_needs(graph)
    gathered = data.gather(graph, needs, advance)
    if held:
        chosen = automatic.ranged(graph, plan, gathered.requested, gathered.samples, only=held)
        _set_ranges(overrides, chosen)
    for path, wrapper in found.wrappers.items():
        tensors = {variable: key for (of, variable), key in overrides.read.items() if of == path}
        means = gathered.requested.means
        wrapper.means = {variable: means[key] for variable, key in tensors.items() if key in means}
        wrapper.fit_scales()
    if fits is not None:
        fit_to_inputs(graph, fits, overrides, gathered.requested, gathered.samples)
    return gathered.requested


def _set_ranges(overrides: Overrides, known: Statistics) -> None:
    """Give every range of a wrapper what was chosen for its tensors."""
    chosen: dict[int, tuple[Any, list[Range]]] = {}
    for key, held in overrides.held.items():
        for one in held:
            chosen.setdefault(id(one), (one, []))[1].append(known.ranges[key])
    for one, ranges in chosen.values():
        one.set(*reduce(Range.union, ranges))


def _observe(found: Converted, data: Representative) -> None:
    """Set the ranges of inputs that no kernel in the graph reads, such as a second one of a custom layer.

    They hold all values that the layer is called with.
    """
    with_tensor = {id(one) for held in found.overrides.held.values() for one in held}
    every = [(w, one) for w in found.wrappers.values() for one in w.every_range if id(one) not in with_tensor]
    if not every:
        return
    if hasattr(data.data, "__next__") or data.executor is not None:
        names = ", ".join(dict.fromkeys(repr(w.layer.name) for w, _ in every))
        raise TfqError(f"layers {names} have inputs that are observed in Keras: give data that can be read twice")
    for wrapper, one in every:
        one.forget()
        wrapper.observing = True
    try:
        _call(found.model, data)
    finally:
        for wrapper, _ in every:
            wrapper.observing = False
    for _, one in every:
        one.settle()


def _call(model: Any, data: Representative) -> None:
    """Call the Keras model with all samples."""
    call = keras_call(model, "keras")
    specs = tuple(
        InputSpec(argument.name, tuple(-1 if size is None else size for size in argument.shape), argument.dtype)
        for argument in call.arguments
    )
    ignore = lambda count: None  # noqa: E731
    for batch in batches(data.data, specs, batch_size=BATCH, limit=data.num_samples, left_over=ignore):
        call(list(batch.inputs))
