"""How long two files take for the same inputs: interleaved, so that a busy machine slows both alike."""

from collections.abc import Sequence

from tfq_converters.graph import AnyArray
from tfq_converters.runtime import ApartRunner, timed
from tfq_fine.report import Latency
from tfq_fine.verification.side import Side


def compare_latency(
    floating: tuple[Side, Sequence[AnyArray]],
    quantized: tuple[Side, Sequence[AnyArray]],
    batch_size: int,
    seconds: float = 2.0,
) -> Latency:
    """Return the median time of one invocation of each, in alternation, the first of each pair alternating too.

    Args:
        floating: the float file and its inputs, as real values [batch_size, ...] in its input order.
        quantized: the same of the quantized file.
        batch_size: samples in the inputs.
        seconds: about how long to measure in all.
    """
    runners = [side.runner for side, _ in (floating, quantized)]
    fed = [side.encode(inputs) for side, inputs in (floating, quantized)]
    apart = [runner for runner in runners if isinstance(runner, ApartRunner)]
    before_ms, after_ms, repeats = (
        apart[0].process.time(apart, fed, seconds) if len(apart) == 2 else timed(runners, fed, seconds)  # type: ignore[arg-type]
    )
    return Latency(before_ms, after_ms, after_ms / before_ms, repeats, batch_size, floating[0].threads)
