"""What a user names on the command line to paths of images."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from snojoe.data.images import is_image


def image_files(arguments: Iterable[str]) -> Iterator[str]:
    """Expand files, folders, patterns, and ``-``: one of these per line of standard input.

    A folder gives the images in it and in its subfolders, by their suffix, sorted; hidden ones are
    left out. Whatever is not there, and a folder without images, is passed on as it is: it is for
    the reader to say what is wrong with it.
    """
    for argument in arguments:
        if argument == "-":
            lines = (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer)
            yield from (path for line in lines if line for path in _expanded(line))
        else:
            yield from _expanded(argument)


def _expanded(argument: str) -> Iterator[str]:
    if os.path.lexists(argument):
        found = [argument]
    else:
        # pathlib's glob knows no absolute patterns.
        found = sorted(glob.glob(argument, recursive=True)) or [argument]  # noqa: PTH207
    for path in found:
        yield from _images_in(path) if Path(path).is_dir() else [path]


def _images_in(folder: str) -> Iterator[str]:
    empty = True
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(is_image, files)):
            empty = False
            yield str(Path(parent, name))
    if empty:
        yield folder
