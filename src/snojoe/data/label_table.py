"""A folder of images with a table: one row per image, in the file ``labels.csv`` or another.

======  ==========================================================================================
file    path from the folder of the table; where none of them is there, names alone
labels  one or several, joined by ``;`` or ``|``; ``-`` where the image shows none of the classes,
        empty where it is not annotated. Or one column for each class, with 0 and 1
split   optional: ``train``, say; ``data.splits`` names ``<name of the folder>/train``
group   optional: what the image shares with others, see `snojoe.data.groups`
======  ==========================================================================================

Fields are separated by commas, semicolons or tabs; other columns are ignored.
"""

from __future__ import annotations

import ast
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import PurePosixPath

from snojoe.data.archives import Archive, NameFinder
from snojoe.data.found import Found, Noticed, split_folder
from snojoe.data.groups import COLUMN as GROUP
from snojoe.data.images import SUFFIXES, is_image
from snojoe.data.tables import WRONG_FIELDS, check, joined, read_table, wrong_groups
from snojoe.support.errors import SnojoeError

# The second is Roboflow's of its multi-label sets, one in each of train, valid and test.
NAMES = ("labels.csv", "_classes.csv")
NEGATIVE = "-"

_FILE = (
    *("file", "filename", "file_name", "filepath", "file_path", "path"),
    *("image", "image_name", "image_path", "img", "image index"),
)
_LABELS = ("labels", "label", "classes", "class", "tags", "choice", "finding labels")
_SPLIT = ("split", "subset")
_INDEX = ("", "unnamed: 0", "index", "id")  # pandas' own, and such

_CLASS_MARKS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_UNSURE = ("-1", "-1.0")  # CheXpert's: a class all the same, and refused with its line


class LabelTable:
    """The images of one table.

    Parameters
    ----------
    archive : Archive
    name : str
        Of the table in the archive. Its folder names the set; at the top of the archive, the
        archive does. A folder called after a split (``valid/_classes.csv``) names the list.
    certain : collection of str
        Labels that are one class each, whatever they look like.

    Attributes
    ----------
    lists : list of str
        ``<set>/<split>``.
    known_classes : set of str
        The labels of all rows, and the columns of classes.
    noticed : Noticed

    Raises
    ------
    SnojoeError
        Naming the lines that are wrong, and what was expected.
    """

    title = "a table of labels"
    class_order: Sequence[str] = ()

    def __init__(self, archive: Archive, name: str, certain: Collection[str] = ()) -> None:
        self.archive, self.name = archive, name
        self.noticed = Noticed()
        folder = PurePosixPath(name).parent
        if split_folder(name) == folder.name:
            folder = folder.parent
        self.set = folder.name or archive.name
        self._where = f"{self.set}/{name.removeprefix(f'{folder}/')}"
        self._found: dict[str, list[Found]] = {}
        self._lines: dict[str, int] = {}
        self._alike: dict[frozenset[str], frozenset[str]] = {}

        self._table = read_table(archive, name)
        self._columns = [self._table.column(*names) for names in (_FILE, _LABELS, _SPLIT, (GROUP,))]
        file, labels, *_ = self._columns
        self._classes = {} if labels is not None or file is None else self._class_columns()
        if file is None or (labels is None and not self._classes):
            raise SnojoeError(
                f"{self._table.where}: expected a first line with file, and labels or a column of "
                f"0 and 1 for each class; got {','.join(self._table.columns)!r}"
            )
        find = self._finder(folder.as_posix(), file)
        problems = [
            f"line {line}: {each}"
            for line, cells in self._table.rows
            for each in self._add(line, cells, find)
        ]
        if not problems and not self._found:
            problems = ["expected one row per image; there is none"]
        check(archive, name, [*problems, *self._joined_by_blanks(certain)])
        del self._table, self._lines, self._alike  # of a million images half a gigabyte
        named = (each.labels or () for found in self._found.values() for each in found)
        self.known_classes = set(self._classes).union(*named)

    @property
    def lists(self) -> Sequence[str]:
        return list(self._found)

    def read(self, item: str) -> list[Found]:
        """Images of a list, in the order of the table."""
        return self._found[item]

    def everything(self) -> list[Found]:
        """All rows."""
        return [each for found in self._found.values() for each in found]

    def is_mine(self, archive: Archive, name: str) -> bool:
        """Whether a file is the table."""
        return archive is self.archive and name == self.name

    def _class_columns(self) -> dict[str, int]:
        """Columns of 0 and 1. One that holds hardly anything else is one with a mistake."""
        others = {*_INDEX, *_FILE, *_SPLIT, GROUP}
        found = {}
        for i, column in enumerate(self._table.columns):
            cells = [cells[i].lower() for _, cells in self._table.rows if cells and cells[i]]
            if column.casefold() in others:
                continue
            marks = sum(cell in _CLASS_MARKS or cell in _UNSURE for cell in cells)
            if 2 * marks > len(cells):
                if column in found:
                    raise SnojoeError(f"{self._table.where}: expected one column {column!r}")
                found[column] = i
            else:
                self.noticed("columns without 0 and 1, not used", f"{self._where}: {column}")
        return found

    def _finder(self, folder: str, file: int) -> Callable[[str], str | None]:
        """From a cell to a file: by its path, or, where no path of the table is one, by name."""
        exact = NameFinder(self.archive)
        start = PurePosixPath(self.name).parent.as_posix()
        cells = [cells[file] for _, cells in self._table.rows if cells]
        if not cells or any(exact(start, cell) for cell in cells):
            return lambda cell: exact(start, cell)
        ends: dict[str, list[str]] = {}
        for name in self.archive:
            if is_image(name) and PurePosixPath(name).is_relative_to(folder):
                path = PurePosixPath(name)
                for key in {path.name, path.stem}:
                    ends.setdefault(key, []).append(name)

        def by_name(cell: str) -> str | None:
            parts = cell.replace("\\", "/").split("/")
            names = ends.get(parts[-1], [])
            if len(names) == 1 and ".." not in parts:
                self.noticed("files found by their name alone", f"{self._where}: {names[0]}")
                return names[0]
            return None

        return by_name

    def _add(
        self, line: int, cells: list[str] | None, find: Callable[[str], str | None]
    ) -> Iterator[str]:
        """Take a row, or say what is wrong with it."""
        if cells is None:
            yield WRONG_FIELDS
            return
        file, _, split, group = (None if i is None else cells[i] for i in self._columns)
        path = find(file or "")
        if path is None:
            yield f"no such file {file!r}"
            return
        split = split_folder(path) if split is None else split
        if not is_image(path):
            yield f"expected an image, by its suffix one of {', '.join(SUFFIXES)}; got {file!r}"
        elif path in self._lines:
            yield (
                f"{file!r} is in line {self._lines[path]} already; expected one row per image, "
                "its labels joined by ;"
            )
        elif not split or "/" in split:
            yield f"expected the name of a split, without a slash; got {split!r}"
        else:
            if wrong := wrong_groups(group or ""):
                yield wrong
            try:
                labels = self._labels(cells)
            except ValueError as error:
                yield str(error)
                return
            if labels is not None:  # most images share theirs with others
                labels = self._alike.setdefault(labels, frozenset(map(sys.intern, labels)))
            self._lines[path] = line
            folder = PurePosixPath(self.name).parent
            inside = PurePosixPath(path)
            if inside.is_relative_to(folder):
                inside = inside.relative_to(folder)
            if split_folder(self.name) == folder.name:
                inside = folder.name / inside
            self._found.setdefault(f"{self.set}/{split}", []).append(
                Found(
                    f"{self.set}/{inside}",
                    self.archive,
                    path,
                    labels,
                    f"{self._where}, line {line}",
                    tuple(joined(group or "")),
                )
            )

    def _labels(self, cells: Sequence[str]) -> frozenset[str] | None:
        """Labels of a row; raises ValueError where they are none."""
        if self._classes:
            marks = {name: cells[i].lower() for name, i in self._classes.items()}
            if not any(marks.values()):
                return None
            for name, mark in marks.items():
                if mark not in _CLASS_MARKS:
                    raise ValueError(f"expected 0 or 1 for {name}; got {mark!r}")
            return frozenset(name for name, mark in marks.items() if _CLASS_MARKS[mark])
        cell = cells[self._columns[1] or 0]
        if cell == NEGATIVE:
            return frozenset()
        if (names := _listed(cell)) is not None:
            return frozenset(names)
        names = joined(cell)
        # Those with commas could be meant as one name or several.
        if "" in names or any("," in name or name[0] in "[{(\"'" for name in names):
            raise ValueError(f"expected labels joined by ; or |; got {cell!r}")
        return frozenset(names) or None

    def _joined_by_blanks(self, certain: Collection[str]) -> Iterator[str]:
        """``cat dog`` where there are a cat and a dog: one name, or two.

        It is said, not refused, where only some of the words are labels (a table, a dining table)
        or most labels have blanks and share words.
        """
        everything = [each for found in self._found.values() for each in found]
        known = frozenset[str]().union(*(each.labels or () for each in everything))
        doubtful = {
            name
            for name in known
            if " " in name and name not in certain and known.issuperset(name.split())
        }
        orders = Counter(frozenset(name.split()) for name in known - set(certain))
        doubtful |= {name for name in known if orders[frozenset(name.split())] > 1}
        for name in sorted(_maybe_several(known - doubtful - set(certain))):
            what = "labels that may be several, joined by blanks where ; or | was expected"
            self.noticed(what, f"{self._where}: {name}")
        for each in everything if doubtful and not self._classes else ():
            for label in sorted((each.labels or frozenset()) & doubtful):
                yield (
                    f"line {self._lines[each.name]}: expected labels joined by ; or |; got "
                    f"{label!r}, and its words are labels, too, also alone or in another order. If "
                    f"it is a class of its own, set data.label_meanings to {{{label}: class}}"
                )


def _listed(cell: str) -> list[str] | None:
    """Names in a list as JSON or Python writes it, or Label Studio's choices; None in others."""
    if cell[:1] not in ("[", "{"):
        return None
    value = None
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = read(cell)
            break
    value = value.get("choices") if isinstance(value, dict) else value
    if isinstance(value, list) and all(isinstance(name, str) and name.strip() for name in value):
        return [name.strip() for name in value]
    return None


def _maybe_several(names: Collection[str]) -> set[str]:
    """Names with blanks that look like several: a word is a label, or is in many of them."""
    several = {name for name in names if " " in name}
    with_label = {name for name in several if not {*name.split()}.isdisjoint(names)}
    words = Counter(word for name in names for word in set(name.split()))
    shared = {name for name in several if any(words[word] > 2 for word in name.split())}
    return with_label | (shared if 2 * len(several) > len(names) else set())


def is_table(name: str) -> bool:
    """Whether a file's name is that of a table that is looked for by itself."""
    return PurePosixPath(name).name.lower() in NAMES
