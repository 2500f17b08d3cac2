"""What lies in an archive and is not used, by kind and number: nothing vanishes without a word."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import PurePosixPath

from snojoe.data.archives import Archive
from snojoe.data.groups import NAME as GROUPS
from snojoe.data.images import is_image


def left_out(
    archive: Archive,
    images: Container[str],
    is_mine: Callable[[Archive, str], bool] = lambda archive, name: False,
) -> dict[str, list[str]]:
    """Names by kind.

    Parameters
    ----------
    archive : Archive
    images : container of str
        Names of those that are used.
    is_mine : callable
        Whether a file that is no image is used.
    """
    kinds = {kind: list(names) for kind, names in archive.left_out.items()}
    for name in archive:
        if is_image(name):
            if name not in images:
                kinds.setdefault("images", []).append(name)
        elif not is_mine(archive, name) and PurePosixPath(name).name != GROUPS:
            kinds.setdefault(kind_of(name), []).append(name)
    return kinds


def kind_of(name: str) -> str:
    """``hidden files``, ``.txt files`` or ``files without suffix``."""
    path = PurePosixPath(name)
    if path.name.startswith("."):
        return "hidden files"
    suffix = path.suffix.lower()
    return f"{suffix} files" if suffix.isprintable() and suffix else "files without suffix"


def describe(kinds: dict[str, list[str]]) -> str:
    """``left out: 2 hidden files (._a.jpg), 1 .txt files (note.txt)``."""
    shown = (f"{len(names):,} {kind} ({_shown(names[0])})" for kind, names in sorted(kinds.items()))
    return f"left out: {', '.join(shown)}"


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) < 100 else repr(name[:80])
