"""Inputs that hypothesis draws for several tests."""

from hypothesis import strategies as st


@st.composite
def ranges(draw: st.DrawFn) -> tuple[float, float]:
    """Any range, or one that is symmetric about 0 but for a little."""
    one = draw(st.floats(-1e4, 1e4, width=32))
    other = draw(st.one_of(st.floats(-1e4, 1e4, width=32), st.floats(0.998, 1.002).map(lambda ratio: -one * ratio)))
    return min(one, other), max(one, other)
