"""Values that are computed once per object."""

import numpy as np
import pytest

from tfq_converters.errors import TfqError
from tfq_converters.graph import IdentityCache


def test_equal_arrays_are_two_objects_and_keys_count_by_content():
    cache, weight, twin = IdentityCache(), np.ones(3), np.ones(3)
    calls = []
    for array, key in ((weight, ("int", 8)), (weight, ("int", 8)), (twin, ("int", 8)), (weight, ("int", 4))):
        cache.once(lambda key=key: calls.append(key), array, key=key)
    assert calls == [("int", 8), ("int", 8), ("int", 4)]
    assert len(cache) == 3


def test_a_dead_object_does_not_leave_its_id_to_the_next():
    """CPython gives a new array the id of one that died at once; a cache of ids alone would answer for the dead one."""
    cache = IdentityCache()
    for n in range(50):
        assert cache.once(lambda n=n: n, np.full(3, n)) == n


def test_several_objects_count_in_their_order():
    cache, first, second = IdentityCache(), [1], [1]
    assert cache.once(lambda: "forward", first, second) == "forward"
    assert cache.once(lambda: "backward", second, first) == "backward"
    assert cache.once(lambda: "none") == "none"


def test_a_failure_is_not_kept():
    cache, weight = IdentityCache(), np.ones(3)

    def fails() -> int:
        raise TfqError("not now")

    with pytest.raises(TfqError, match="not now"):
        cache.once(fails, weight)
    assert cache.once(lambda: 1, weight) == 1
