"""What every format of labelled images gives: lists of images, each with what is said of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from snojoe.data.archives import Archive

# Folders by which tools and people say whom an image is for.
SPLITS = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_NAMES = {name for names in SPLITS.values() for name in names}
ALL = "all"


class Found(NamedTuple):
    """One image of a list.

    Attributes
    ----------
    id : str
        ``<set>/<name>``.
    archive : Archive
    name : str
        Of the image in it.
    labels : frozenset of str or None
        Names that are annotated; empty where none of them is to be seen, None where nobody said.
    where : str
        Where that stands, for messages.
    groups : tuple of str
        See `snojoe.data.groups`.
    """

    id: str
    archive: Archive
    name: str
    labels: frozenset[str] | None
    where: str
    groups: tuple[str, ...] = ()


class Noticed:
    """What is worth saying once, however often it was seen."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, None]] = {}

    def __call__(self, what: str, example: str = "") -> None:
        self._seen.setdefault(what, {})[example] = None

    def lines(self) -> list[str]:
        """``what: 12, such as this one``, or ``what`` alone where it has no example."""
        return [
            what if "" in examples else f"{what}: {len(examples):,}, such as {next(iter(examples))}"
            for what, examples in self._seen.items()
        ]


class Format(Protocol):
    """Labelled images as one tool writes them.

    Attributes
    ----------
    title : str
        For people.
    lists : sequence of str
        ``<set>/<list>``: what ``data.splits`` may name.
    known_classes : set of str
        Those that it names besides what is annotated, if any.
    class_order : sequence of str
        Classes in the format's own order, if it has one; others are sorted behind them.
    noticed : Noticed
        What a user should know of what was read so far.
    """

    title: str

    @property
    def lists(self) -> Sequence[str]: ...

    known_classes: set[str]
    class_order: Sequence[str]
    noticed: Noticed

    def read(self, item: str) -> list[Found]:
        """Images of a list, in its order; raises SnojoeError where one is missing or wrong."""

    def everything(self) -> list[Found]:
        """All images that have a place in it, listed or not."""

    def is_mine(self, archive: Archive, name: str) -> bool:
        """Whether a file that is no image belongs to the format: a list, say, or a table."""


def split_folder(name: str) -> str:
    """The part of a path that names a split (``valid``), or ``all``."""
    return next((p for p in PurePosixPath(name).parts[:-1] if p.lower() in SPLIT_NAMES), ALL)


def quoted(names: Iterable[str], most: int = 3) -> str:
    """``'a', 'b' and 7 more``, for messages."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
