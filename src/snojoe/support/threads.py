"""Work in threads: PIL decodes and resizes without Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def parallel(
    function: Callable[[T], R],
    items: Iterable[T],
    ahead: int | None = None,
    workers: int | None = None,
) -> Iterator[R]:
    """Map in order over threads, with a bounded look-ahead.

    Parameters
    ----------
    function : callable
    items : iterable
        Read as they are needed.
    ahead : int, optional
        Number of items that are worked on or done before their turn; four for each thread.
    workers : int, optional
        Number of threads; as many as there are cores.
    """
    workers = workers or os.cpu_count() or 1
    remaining = iter(items)
    pool = ThreadPoolExecutor(workers)
    window: deque[Future[R]] = deque()
    try:
        for item in islice(remaining, ahead or 4 * workers):
            window.append(pool.submit(function, item))
        while window:
            done = window.popleft().result()
            for item in islice(remaining, 1):
                window.append(pool.submit(function, item))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)
