"""A folder of images with a ``labels.csv``: the columns file, labels and split, one row per image.

======  ==========================================================================================
file    path from the folder of ``labels.csv``, with ``/``
labels  one or several, joined by ``;`` or ``|``; empty where the image is not annotated
split   ``train``, say: ``data.splits`` names ``<name of the folder>/train``
group   optional: what the image shares with others, see `snojoe.data.groups`
======  ==========================================================================================

UTF-8, fields separated by commas; other columns are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from snojoe.data.archives import Archive, stem
from snojoe.data.groups import COLUMN as GROUP
from snojoe.data.tables import WRONG_FIELDS, check, joined, rows, wrong_groups

NAME = "labels.csv"
COLUMNS = ("file", "labels", "split")


def find_tables(archives: Sequence[Archive]) -> Iterator[LabelTable]:
    """Every ``labels.csv`` of the archives."""
    for archive in archives:
        for name in archive:
            if PurePosixPath(name).name == NAME:
                yield LabelTable(archive, name)


class LabelTable:
    """The images of one ``labels.csv``.

    Parameters
    ----------
    archive : Archive
    name : str
        Of the table in the archive. Its folder names the set; at the top of the archive, the
        archive does.

    Attributes
    ----------
    lists : dict of str to list of str
        From ``<set>/<split>`` to the images, ``<set>/<file>``.
    known_classes : set of str
        The labels of all rows.

    Raises
    ------
    SnojoeError
        Naming the lines that are wrong, and what was expected.
    """

    def __init__(self, archive: Archive, name: str) -> None:
        self.archive, self.name = archive, name
        self.folder = PurePosixPath(name).parent
        self.set = self.folder.name or stem(archive.path.resolve())
        self.lists: dict[str, list[str]] = {}
        self._labels: dict[str, set[str] | None] = {}
        self._images: dict[str, str] = {}
        self._lines: dict[str, int] = {}
        self._groups: dict[str, tuple[str, ...]] = {}
        problems = [
            f"line {line}: {each}"
            for line, row in rows(archive, name, COLUMNS, optional=[GROUP])
            for each in self._add(line, row)
        ]
        if not problems and not self._images:
            problems = ["expected one row per image; there is none"]
        check(archive, name, problems)
        self.known_classes = set().union(*(found or () for found in self._labels.values()))

    def ids(self, item: str) -> list[str]:
        """Images of a list, in the order of the table."""
        return self.lists[item]

    def labels(self, image_id: str) -> set[str] | None:
        """Labels of an image, or None where its cell is empty."""
        return self._labels[image_id]

    def image(self, item: str, image_id: str) -> tuple[Archive, str]:
        """Archive of an image and its name there."""
        return self.archive, self._images[image_id]

    def annotation(self, image_id: str) -> str:
        """Where the labels of an image stand."""
        return f"{self.set}/{NAME}, line {self._lines[image_id]}"

    def groups(self, image_id: str) -> tuple[str, ...]:
        """Groups of an image, by its id; empty where none is named."""
        return self._groups[image_id]

    def _add(self, line: int, row: Mapping[str, str] | None) -> Iterator[str]:
        """Take a row, or say what is wrong with it."""
        if row is None:
            yield WRONG_FIELDS
            return
        file, labels, split = (row[column] for column in COLUMNS)
        path = (self.folder / file).as_posix()
        image_id = f"{self.set}/{PurePosixPath(file)}"  # ./a.jpg is a.jpg
        if path not in self.archive:
            yield f"no such file {file!r}"
        elif image_id in self._images:
            yield f"{file!r} is in line {self._lines[image_id]} already"
        elif not split or "/" in split:
            yield f"expected the name of a split, without a slash; got {split!r}"
        else:
            names = joined(labels)
            if wrong := wrong_groups(row[GROUP]):
                yield wrong
            if "" in names or any("," in name for name in names):
                yield f"expected labels joined by ; or |; got {labels!r}"
            self.lists.setdefault(f"{self.set}/{split}", []).append(image_id)
            self._labels[image_id] = set(names) or None
            self._images[image_id] = path
            self._lines[image_id] = line
            self._groups[image_id] = tuple(joined(row[GROUP]))
