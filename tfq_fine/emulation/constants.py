"""The constants of a file in TensorFlow."""

from typing import Any

from tfq_converters.graph import IdentityCache, Tensor
from tfq_fine.emulation.codes import is_quantized, weight_values

SMALL = 4096  # values; among them all shapes and axes, which TensorFlow must know when it builds a graph


class Constants:
    """Each constant once: large ones stay outside TensorFlow's graphs, which hold 2 GB and copy what is in them."""

    def __init__(self) -> None:
        self._beside = IdentityCache()

    def stored(self, tf: Any, tensor: Tensor) -> Any:
        """Return what the file stores: codes of a quantized tensor in float32, else values of its type."""
        held = self._held(tf, tensor, decoded=False)
        return tf.cast(held, tf.float32) if is_quantized(tensor) else held

    def real(self, tf: Any, tensor: Tensor) -> Any:
        """Return the real values of a quantized tensor, float32."""
        return self._held(tf, tensor, decoded=True)

    def _held(self, tf: Any, tensor: Tensor, decoded: bool) -> Any:
        source = tensor.constant
        if source.size <= SMALL:
            return tf.constant(weight_values(tensor) if decoded else source)

        def large() -> Any:
            values = weight_values(tensor) if decoded else source
            with tf.init_scope():
                return tf.constant(values)

        return self._beside.once(large, source, key=decoded)
