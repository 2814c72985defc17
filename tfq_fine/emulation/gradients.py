"""Gradients of a float graph's outputs with respect to some of its inputs."""

from collections.abc import Sequence

import numpy as np

from tfq_converters.graph import AnyArray, Float32Array, Graph
from tfq_fine.emulation.interpreter import Interpreter


def pulled_back(
    graph: Graph,
    fed: Sequence[AnyArray],
    added: Sequence[int],
    betas: Sequence[float | None],
    weightings: Sequence[Sequence[Float32Array]],
) -> list[list[Float32Array]]:
    """Return J^T v for each v of `weightings`, where J is the Jacobian of the outputs with respect to the last inputs.

    Args:
        graph: a float graph.
        fed: the values of its first inputs.
        added: the tensors of its last inputs, which are 0.
        betas: for every output, beta where log softmax of the output is meant, else None.
        weightings: v, one array for each output, of its shape.

    Returns:
        One array for each of `added`, of its shape, for each v.

    Raises:
        TfqError: TensorFlow does not know an operator of the graph.
    """
    import tensorflow as tf

    run = Interpreter(graph, has_gradients=True)
    zeros = [tf.zeros(graph.main.tensors[t].shape) for t in added]
    with tf.GradientTape(persistent=len(weightings) > 1) as tape:
        tape.watch(zeros)
        outputs = run([*map(tf.constant, fed), *zeros])
        pairs = zip(outputs, betas, strict=True)
        compared = [y if beta is None else tf.nn.log_softmax(y * beta) for y, beta in pairs]
    pulls = [
        tape.gradient(compared, zeros, output_gradients=[*map(tf.constant, v)], unconnected_gradients="zero")
        for v in weightings
    ]
    return [[np.asarray(pull) for pull in each] for each in pulls]
