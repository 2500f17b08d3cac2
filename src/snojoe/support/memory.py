"""How a program of ours uses memory: freed blocks are kept, garbage is looked for less often."""

from __future__ import annotations

import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 2**30
_OBJECTS = 100_000


def tune_memory() -> None:
    """Call it in programs that are ours alone, before what is large is imported.

    glibc's malloc returns large blocks to the system at once. A network asks for blocks of the same
    sizes at each batch, and the system clears each page of them anew: 11 of 28 ms an image of a
    small network. It is told to keep them; elsewhere than on glibc nothing happens. The most that a
    process needs at a time is as before.

    Python looks for cyclic garbage after every 700 or 2,000 new objects. Importing PyTorch makes a
    million, of which next to none is garbage: an eighth of its time.
    """
    _keep_freed_blocks()
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])


def _keep_freed_blocks() -> None:
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):  # musl, macOS, Windows
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _LARGE)
