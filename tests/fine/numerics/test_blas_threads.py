"""Threads of linear algebra."""

from threadpoolctl import threadpool_info

from tfq_fine.numerics import threads_for


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_small_matrices_take_one_thread_and_large_ones_all():
    """Whatever the number was before, it is so again afterwards."""
    before = blas_threads()
    with threads_for(2047):
        assert blas_threads() == [1] * len(before)
    with threads_for(2048):
        assert blas_threads() == before
    assert before and blas_threads() == before
