"""What a user names on the command line to paths of images."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from snojoe.data.images import looks_like_image
from snojoe.data.left_out import kind_of

LeftOut = dict[str, list[str]]
"""Paths by kind, as `snojoe.data.left_out.describe` says them."""


def image_files(arguments: Iterable[str], left_out: LeftOut | None = None) -> Iterator[str]:
    """Expand files, folders, patterns, and ``-``: one of these per line of standard input.

    A folder gives the photographs in it and in its subfolders, sorted: by their suffix, also those
    of kinds that cannot be decoded, and files without suffix that are images by their content.
    Links to folders are followed, each folder once. Whatever is not there, and a folder without
    images, is passed on as it is: it is for the reader to say what is wrong with it.

    Parameters
    ----------
    arguments : iterable of str
    left_out : dict, optional
        Gets, as the images are taken, what else lies in folders.
    """
    kinds: LeftOut = {} if left_out is None else left_out
    for argument in arguments:
        if argument == "-":
            lines = (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer)
            yield from (path for line in lines if line for path in _expanded(line, kinds))
        else:
            yield from _expanded(argument, kinds)


def _expanded(argument: str, left_out: LeftOut) -> Iterator[str]:
    if os.path.lexists(argument):
        found = [argument]
    else:
        # pathlib's glob knows no absolute patterns.
        found = sorted(glob.glob(argument, recursive=True)) or [argument]  # noqa: PTH207
    for path in found:
        yield from _images_in(path, left_out) if Path(path).is_dir() else [path]


def _images_in(folder: str, left_out: LeftOut) -> Iterator[str]:
    empty = True
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # by another link, or in a circle
            folders.clear()
            continue
        seen.add(real)
        for name in folders:
            if name.startswith("."):
                left_out.setdefault("hidden folders", []).append(str(Path(parent, name)))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if looks_like_image(path):
                empty = False
                yield str(path)
            else:
                left_out.setdefault(kind_of(path.name), []).append(str(path))
    if empty:
        yield folder
