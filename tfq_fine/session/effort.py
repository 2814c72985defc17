"""The requests of a recipe, completed by `quality`."""

from tfq_converters.graph import Graph
from tfq_converters.operators import facts_of, weight_axes
from tfq_converters.quantized import OpKey
from tfq_fine.request import Layers, OpSpec, PerChannel, Quality, Recipe, WeightedSpec, with_quality
from tfq_fine.variants import too_large

FEW_BITS = 3  # bits of weights, up to which the first and the last layer are quantized to 8 bits for the best quality


def requested_specs(
    recipe: Recipe, graph: Graph, layers: Layers | None, quality: Quality, has_samples: bool
) -> dict[OpKey, OpSpec | None]:
    """Return what is requested of every operator.

    With "best" and weights of up to 3 bits, the first and the last linear layer get 8 bits unless a rule of the recipe
    is about them: all errors of the first one go through the network, those of the last one come
    out of it, and both are small (Choi et al. 2018, PACT, arXiv 1805.06085, section 5, and most work since).

    A model of more than 256 MiB is fitted for "best" only, since that takes hours; its variants are not compared
    either.

    Raises:
        TfqError: a rule of the recipe matches nothing.
    """
    resolved = recipe.resolve(graph, layers)
    if quality == "balanced" and too_large(graph):
        quality = "fast"
    specs = {key: with_quality(spec, quality, has_samples) for key, spec in resolved.items()}
    if quality != "best" or not has_samples:
        return specs
    main = graph.main
    linear = [(0, o) for o, op in enumerate(main.ops) if facts_of(op.code).linear and weight_axes(op, main)]
    for key in linear[:1] + linear[-1:]:
        spec = specs[key]
        if resolved[key] is not recipe.default or not isinstance(spec, WeightedSpec) or len(linear) < 3:
            continue
        if spec.weights.bits <= FEW_BITS:
            specs[key] = spec.with_weights(bits=8, granularity=PerChannel())
    return specs
