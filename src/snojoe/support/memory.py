"""Memory that a process will need again is not given back to the system in between."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 2**30


def keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed, for programs that are ours alone.

    By default it returns large blocks at once. A network asks for blocks of the same sizes at each
    batch, and the system clears each page of them anew: 11 of 28 ms an image of a small network.
    Elsewhere than on glibc nothing happens. The most that a process needs at a time is as before.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):  # musl, macOS, Windows
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _LARGE)
