"""Progress bars for whatever lasts longer than two seconds."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    iterable: Iterable[T], total: int | None = None, desc: str = "", unit: str = "image"
) -> Iterator[T]:
    """Iterate with a progress bar on standard error.

    The bar appears after two seconds and is wiped at the end. Where standard error is not a
    terminal (a log, CI), it is one line every 30 s.
    """
    terminal = sys.stderr.isatty()
    yield from tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        leave=False,
        delay=2.0,
        mininterval=0.2 if terminal else 30.0,
        dynamic_ncols=terminal,
    )
