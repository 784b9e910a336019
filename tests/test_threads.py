import pytest
import threadpoolctl

from evomerge.threads import one_thread


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


def test_linear_algebra_is_held_to_one_thread_and_let_go():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_thread():
            assert threads() == {1}
            with one_thread():
                assert threads() == {1}
            assert threads() == {1}
        assert threads() == before


def test_it_lets_go_after_an_error():
    before = threads()
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert threads() == before
