"""Images by the paths that a file of labels gives them, when it does not say from where they go.

``000000000009.jpg`` may lie in ``train2017``, in ``images/train`` or in another archive; what wrote
the file may have had other folders, the separators of Windows, or an address.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from snojoe.data.archives import Archive, NameFinder
from snojoe.data.found import Noticed, quoted
from snojoe.data.images import is_image
from snojoe.support.errors import SnojoeError


class Place(NamedTuple):
    """The folder from which the paths of one file go, and the image of each: None for no image."""

    archive: Archive
    folder: str
    images: list[str | None]


class NamedImages:
    """The images of some archives."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self._archives = archives
        self._ends: dict[str, list[tuple[int, str]]] = {}
        for i, archive in enumerate(archives):
            for name in filter(is_image, archive):
                end = _plain(name).rpartition("/")[2]
                self._ends.setdefault(end, []).append((i, name))

    def find(
        self, names: Sequence[str], of: tuple[Archive, str], title: str, noticed: Noticed
    ) -> Place | None:
        """One folder for all names: images beside one that is missing are never taken for it.

        As much of each path is used as leads anywhere. Of several folders the nearest to the file
        is taken, or the one that is called `title`, as ``train2017``.

        Parameters
        ----------
        names : sequence of str
            As the file has them.
        of : (Archive, str)
            The file.
        title : str
            What the file calls its images: the list that they become.
        noticed : Noticed
            Is told of folders and addresses in the paths that are not there.

        Returns
        -------
        Place or None
            None where none of the images is anywhere.

        Raises
        ------
        SnojoeError
            If several folders are as near and hold as many of the images.
        """
        for paths in ([_path(name) for name in names], [_path(unquote(name)) for name in names]):
            for kept in range(max(map(len, paths), default=0), 0, -1):
                ends = ["/".join(parts[-kept:]) for parts in paths]
                if not (counts := self._folders(ends)):
                    continue
                archive, folder = self._nearest(counts, of, title)
                find = NameFinder(archive)
                found = [find(folder or ".", end) for end in ends]
                images = [name if name and is_image(name) else None for name in found]
                for i, parts in enumerate(paths):
                    if len(parts) > kept and images[i]:
                        what = "images found by the end of their paths alone"
                        noticed(what, f"{images[i]} for {names[i]}")
                return Place(archive, folder, images)
        return None

    def elsewhere(self, name: str) -> str:
        """A sentence on where an image of this name lies, if anywhere."""
        for i, path in self._ends.get(_plain(_path(name)[-1]), [])[:1]:
            return f"; there is {self._archives[i].path}: {path}"
        return ""

    def _folders(self, ends: Sequence[str]) -> Counter[tuple[int, str]]:
        """From archive and folder to the number of images that lie in it under their ends."""
        counts: Counter[tuple[int, str]] = Counter()
        for end in ends:
            plain = _plain(end)
            for i, path in self._ends.get(plain.rpartition("/")[2], []):
                if f"/{_plain(path)}".endswith(f"/{plain}"):
                    parts = path.split("/")
                    counts[i, "/".join(parts[: len(parts) - end.count("/") - 1])] += 1
        return counts

    def _nearest(
        self, counts: Counter[tuple[int, str]], of: tuple[Archive, str], title: str
    ) -> tuple[Archive, str]:
        archive, name = of
        home = PurePosixPath(name).parts[:-1]

        def rank(place: tuple[int, str]) -> tuple[bool, bool, bool, int, int]:
            parts = PurePosixPath(place[1]).parts
            pairs = zip(home, parts, strict=False)
            shared = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
            steps = len(home) + len(parts) - 2 * shared
            other = self._archives[place[0]] is not archive
            titled = title.lower() in (part.lower() for part in parts)
            return other, other or steps > 0, not titled, steps, -counts[place]

        first, *others = sorted(counts, key=rank)
        if same := [place for place in others if rank(place) == rank(first)]:
            there = [f"{self._archives[i].path}/{folder}" for i, folder in (first, *same)]
            raise SnojoeError(
                f"{archive.path}: {name}: expected its images in one folder; got {quoted(there)}"
            )
        return self._archives[first[0]], first[1]


def _path(name: str) -> list[str]:
    """Parts of a path as programs write it: of Windows, absolute, or in an address.

    Label Studio's ``/data/local-files/?d=a/b.jpg`` has it behind ``d=``.
    """
    path = name.replace("\\", "/")
    if "://" in path or "/?" in path:
        with contextlib.suppress(ValueError):  # no address
            address = urlsplit(path)
            path = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    return [part for part in path.split("/") if part not in ("", ".", "..")] or [name]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
