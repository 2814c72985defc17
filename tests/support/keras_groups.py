"""The cases of a group as one model with a branch per case; what belongs to a case in a file made of it."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np

from support.keras_cases import FIXED_BATCH, Case, tokens
from tfq_converters.graph import Graph, Op

NOT_COMPUTING = frozenset({"QUANTIZE", "DEQUANTIZE", "SHAPE"})  # conversions, and what reads no values
Arrays = dict[str, np.ndarray]  # by input name, samples along axis 0


def input_names(case: Case) -> list[str]:
    return [f"{case.name}_in{i}" for i in range(len(case.shapes))]


def model_of(group: str, cases: Sequence[Case]) -> keras.Model:
    """A model with one independent branch per case; every weight random, so that nothing is folded away."""
    keras.utils.set_random_seed(1)
    inputs, outputs = [], {}
    for case in cases:
        dtype = "int32" if case.sampler is tokens else "float32"
        batch = 1 if group in FIXED_BATCH else None
        own = [
            keras.Input(shape, batch, dtype, name=name)
            for shape, name in zip(case.shapes, input_names(case), strict=True)
        ]
        inputs += own
        outputs[case.name] = case.build(keras.layers, *own)
    model = keras.Model(inputs, outputs, name=group)
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if "float" in weight.dtype and len(weight.shape) < 2:
            positive = any(word in weight.path for word in ("variance", "gamma", "scale"))
            values = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(size=weight.shape) * 0.5
            weight.assign(values.astype(np.float32))
    return model


def data_of(cases: Iterable[Case], samples: int, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        name: case.sampler(rng, (samples, *shape))
        for case in cases
        for name, shape in zip(input_names(case), case.shapes, strict=True)
    }


def branch(graph: Graph, output: str) -> list[Op]:
    """The operators of the main subgraph that the output called `output` needs."""
    main, producers = graph.main, graph.main.producers()
    wanted = [main.outputs[graph.output_names().index(output)]]
    found: set[int] = set()
    while wanted:
        index = producers.get(wanted.pop())
        if index is not None and index not in found:
            found.add(index)
            wanted += [t for t in main.ops[index].inputs if t >= 0]
    return [main.ops[index] for index in sorted(found)]


def float_ops(graph: Graph, output: str) -> list[Op]:
    """The operators of a branch that compute in float32: they read or write a float activation."""
    tensors = graph.main.tensors
    return [
        op
        for op in branch(graph, output)
        if op.code not in NOT_COMPUTING
        and any(tensors[t].dtype == "float32" for t in (*op.inputs, *op.outputs) if t >= 0)
    ]
