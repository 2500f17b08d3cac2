"""What goes wrong with the machine, as a message that says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import distributed

from snojoe.support.errors import SnojoeError
from snojoe.support.text import first_line


@contextlib.contextmanager
def explained(parameter: str, batch_size: int) -> Iterator[None]:
    """Raise a SnojoeError where memory, a loader's worker or another process fails.

    Parameters
    ----------
    parameter : str
        Name of the parameter that decides the need for memory, such as ``train.batch_size``.
    batch_size : int
        Its value.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise _too_large(parameter, batch_size, "the GPU's memory") from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):
            raise _too_large(parameter, batch_size, "memory") from None
        if "DataLoader worker" in str(error):
            raise SnojoeError(
                f"train.workers: a process that loads images ended ({first_line(error)}); the "
                f"same command goes on from the last checkpoint, with fewer workers if memory is "
                f"short"
            ) from None
        if distributed.is_available() and distributed.is_initialized():
            raise SnojoeError(
                f"another process of this run ended ({first_line(error)}); the same command starts "
                f"it again, a training from its last checkpoint"
            ) from error
        raise


def _too_large(parameter: str, batch_size: int, memory: str) -> SnojoeError:
    smaller = f"; try {batch_size // 2}" if batch_size > 1 else ""
    return SnojoeError(f"{parameter}: {batch_size} images do not fit into {memory}{smaller}")
