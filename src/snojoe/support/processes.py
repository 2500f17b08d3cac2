"""One run by several processes (torchrun, accelerate): the first speaks and writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import distributed

T = TypeVar("T")

# While the first tunes, say. A process that has died is its launcher's to notice.
_PATIENCE = timedelta(days=1)


def process_number() -> int:
    """Of this process among those that a launcher started, from 0; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """How many processes a launcher started; 1 where there is none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the only process, or the first of those that a launcher started."""
    return process_number() == 0


def say(line: str) -> None:
    """Print what all processes would say, once."""
    if is_first_process():
        print(line)


@contextlib.contextmanager
def processes_joined() -> Iterator[None]:
    """Let the processes reach one another, each with its GPU if there are any.

    Through the CPU's memory, whatever computes: what they send is written to disk.
    """
    if process_count() == 1:
        yield
        return
    if torch.accelerator.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.accelerator.set_device_index(local % torch.accelerator.device_count())
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def in_turns(own: Iterable[T], total: int) -> Iterator[T]:
    """Bring to the first process what all processes have, in order; others get nothing.

    Every process has to iterate: it works meanwhile.

    Parameters
    ----------
    own : iterable
        Of `total` things in a row, those whose number is `process_number()` when divided by
        `process_count()`. They are pickled.
    total : int
    """
    count = process_count()
    if count == 1:
        yield from own
        return
    remaining = iter(own)
    for start in range(0, total, count):
        received: list[Any] | None = [None] * count if is_first_process() else None
        distributed.gather_object(next(remaining, None), received)
        yield from (received or [])[: total - start]


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; it is pickled."""
    if process_count() == 1:
        return make()
    made: list[Any] = [make() if is_first_process() else None]
    distributed.broadcast_object_list(made)
    return cast(T, made[0])
