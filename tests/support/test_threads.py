import threading

import pytest

from snojoe.support.threads import parallel


def test_parallel_keeps_order_and_passes_errors_on():
    assert list(parallel(lambda x: x * x, range(100))) == [x * x for x in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(parallel(lambda x: 1 // (50 - x), range(100)))


def test_parallel_looks_ahead_no_further_than_asked():
    taken = []
    done = parallel(lambda x: x, (taken.append(i) or i for i in range(100)), ahead=5)
    assert next(done) == 0
    assert len(taken) == 6


def test_parallel_that_is_not_read_to_the_end_leaves_no_thread():
    before = threading.active_count()
    done = parallel(lambda x: x, range(100))
    next(done)
    done.close()
    assert threading.active_count() == before


def test_parallel_has_as_many_threads_as_asked():
    assert len({*parallel(lambda _: threading.get_ident(), range(100), workers=1)}) == 1
