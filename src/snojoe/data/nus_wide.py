"""NUS-WIDE: the two lists a split of JointEnergy's code, or the official release's file a concept.

Chua et al., NUS-WIDE: A Real-World Web Image Database from National University of Singapore,
CIVR 2009. The protocol (Wang et al. 2021) leaves out images without a concept, shuffles the test
list, and takes its first half as val, the rest as test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from snojoe.data.archives import Archive
from snojoe.data.class_names import NUS_WIDE
from snojoe.data.found import Found, Noticed
from snojoe.data.named_images import NamedImages
from snojoe.data.tables import check
from snojoe.support.errors import SnojoeError

_SEED = 999  # of the protocol
_LISTS = re.compile(r"^nus_wide_(train|test)_imglist\.txt$", re.IGNORECASE)
_OFFICIAL_LISTS = re.compile(r"^(train|test)imagelist\.txt$", re.IGNORECASE)
_OFFICIAL_LABELS = re.compile(
    r"(?:^|/)TrainTestLabels/labels_(?P<concept>[^/]+)_(?P<split>train|test)\.txt$", re.IGNORECASE
)
_NAMES = "concepts81.txt"


class _Text(NamedTuple):
    archive: Archive
    name: str

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.archive.text(self.name).splitlines() if line.strip()]

    @property
    def where(self) -> str:
        return f"{self.archive.path}: {self.name}"

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]


class NusWide:
    """The lists in some archives, and their images in the same or in others.

    Parameters
    ----------
    archives : sequence of Archive

    Attributes
    ----------
    lists : list of str
        ``<set>/train``, ``<set>/val`` and ``<set>/test``, the set being called after the folder of
        the lists.
    known_classes : set of str
    class_order : list of str
        The concepts, in the order of the columns.
    noticed : Noticed
    """

    title = "NUS-WIDE"

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.noticed = Noticed()
        self._archives = archives
        self._lists: dict[str, _Text] = {}  # split -> the list of its images
        self._labels: dict[str, dict[str, _Text]] = {"train": {}, "test": {}}  # by concept
        self._names: _Text | None = None
        official: list[tuple[str, _Text]] = []
        for archive in archives:
            for name in archive:
                text, file = _Text(archive, name), PurePosixPath(name).name
                if match := _LISTS.match(file):
                    self._take(self._lists, match[1].lower(), text)
                elif match := _OFFICIAL_LABELS.search(name):
                    self._take(self._labels[match["split"].lower()], match["concept"], text)
                elif match := _OFFICIAL_LISTS.match(file):
                    official.append((match[1].lower(), text))
                elif file.lower() == _NAMES:
                    self._names = text
        # Split -> the labels of all concepts.
        self._columns = {split: self._beside(text) for split, text in self._lists.items()}
        for split, text in official if not self._columns else ():
            if self._labels[split]:
                self._take(self._lists, split, text)
        self._set = next((_set_name(text) for text in self._lists.values()), "")
        self.class_order: Sequence[str] = list(self._concepts()) if self._lists else []
        self.known_classes = set(self.class_order)
        self._rows: dict[str, list[Found]] = {}

    @property
    def lists(self) -> Sequence[str]:
        splits = {"train": ["train"], "test": ["val", "test"]}
        return [f"{self._set}/{item}" for split in self._lists for item in splits[split]]

    def read(self, item: str) -> list[Found]:
        """Images of a list that show a concept, in its order; val and test are the shuffled halves.

        Raises
        ------
        SnojoeError
            Naming the line that is wrong, or the number of images that are missing.
        """
        name = item.partition("/")[2]
        if name == "train":
            return self._read("train")
        found = self._read("test")
        order = list(range(len(found)))
        np.random.RandomState(_SEED).shuffle(order)
        half = len(found) // 2
        return [found[i] for i in (order[:half] if name == "val" else order[half:])]

    def everything(self) -> list[Found]:
        """The images of both lists that show a concept."""
        return [image for split in self._lists for image in self._read(split)]

    def covers(self, archive: Archive) -> bool:
        """Whether an archive holds lists, labels or images of the set."""
        return bool(self._lists) and (
            any(self.is_mine(archive, name) for name in archive)
            or any(image.archive is archive for image in self.everything())
        )

    def is_mine(self, archive: Archive, name: str) -> bool:
        """Whether a file is one of the lists or of the labels."""
        texts = (
            *self._lists.values(),
            *self._columns.values(),
            *([self._names] if self._names else []),
        )
        return any(t.archive is archive and t.name == name for t in texts) or bool(
            _OFFICIAL_LABELS.search(name) and not self._columns
        )

    @staticmethod
    def _take(texts: dict[str, _Text], key: str, text: _Text) -> None:
        other = texts.setdefault(key, text)
        if other is not text and text.lines != other.lines:
            raise SnojoeError(f"{other.where} and {text.where} differ; expected one of them")

    def _beside(self, text: _Text) -> _Text:
        name = re.sub("imglist", "label", text.name, flags=re.IGNORECASE)
        if name not in text.archive:
            raise SnojoeError(f"{text.where}: expected its labels beside it, in {name}")
        return _Text(text.archive, name)

    def _concepts(self) -> Sequence[str]:
        if not self._columns:
            return sorted({concept for split in self._lists for concept in self._labels[split]})
        return self._names.lines if self._names else NUS_WIDE

    def _read(self, split: str) -> list[Found]:
        if split not in self._rows:
            text = self._lists[split]
            if self._columns:
                names = [line.split()[0] for line in text.lines]
                labels = self._of_columns(self._columns[split], len(names))
            else:
                names = text.lines
                labels = self._of_concepts(split, len(names))
            self._rows[split] = list(self._found(text, names, labels))
        return self._rows[split]

    def _of_columns(self, text: _Text, count: int) -> list[frozenset[str]]:
        """Labels from a file with a column for each concept."""
        lines, problems, marks = text.lines, [], {"0", "1"}
        rows = []
        for number, line in enumerate(lines, 1):
            cells = line.split()
            if len(cells) != len(self.class_order) or not marks.issuperset(cells):
                expected = f"expected {len(self.class_order)} times 0 or 1"
                problems.append(f"line {number}: {expected}; got {line[:40]!r}")
            rows.append(
                frozenset(
                    n for n, cell in zip(self.class_order, cells, strict=False) if cell == "1"
                )
            )
        if len(lines) != count:
            problems.append(f"expected a line for each of {count:,} images; got {len(lines):,}")
        check(text.archive, text.name, problems)
        return rows

    def _of_concepts(self, split: str, count: int) -> list[frozenset[str]]:
        """Labels from a file for each concept."""
        rows: list[set[str]] = [set() for _ in range(count)]
        for concept in self.class_order:
            text = self._labels[split].get(concept)
            if text is None:
                raise SnojoeError(
                    f"{self._lists[split].where}: no Labels_{concept}_{split.capitalize()}.txt, "
                    "which the other split has"
                )
            lines = text.lines
            problems = [
                f"line {number}: expected 0 or 1; got {line[:40]!r}"
                for number, line in enumerate(lines, 1)
                if line not in ("0", "1")
            ]
            if len(lines) != count:
                problems.append(f"expected a line for each of {count:,} images; got {len(lines):,}")
            check(text.archive, text.name, problems)
            for row, line in zip(rows, lines, strict=True):
                if line == "1":
                    row.add(concept)
        return [frozenset(row) for row in rows]

    def _found(
        self, text: _Text, names: Sequence[str], labels: Sequence[frozenset[str]]
    ) -> Iterator[Found]:
        """Images that show a concept; those that show none need not be there."""
        shown = [(n, name) for n, name in enumerate(names) if labels[n]]
        if len(shown) < len(names):
            left = len(names) - len(shown)
            self.noticed(
                f"{text.where}: {left:,} of {len(names):,} images show no concept, left out"
            )
        if not self._columns:
            self.noticed(
                "val and test are halves of the official test list, shuffled; its order is another "
                "than that of JointEnergy's list, so that they are not JointEnergy's halves"
            )
        images = NamedImages(self._archives)
        place = images.find([name for _, name in shown], text, "Flickr", self.noticed)
        found = place.images if place else [None] * len(shown)
        if missing := [name for (_, name), image in zip(shown, found, strict=True) if not image]:
            raise SnojoeError(
                f"{text.where}: no image for {len(missing):,} of its {len(shown):,}, such as "
                f"{missing[0]!r}{images.elsewhere(missing[0])}"
            )
        for (n, _), image in zip(shown, found, strict=True):
            if place and image:
                where = f"{text.where}, line {n + 1}"
                yield Found(f"{self._set}/{image}", place.archive, image, labels[n], where)


def _set_name(text: _Text) -> str:
    parts = [part for part in text.folder.split("/") if part and part.lower() != "imagelist"]
    return parts[-1] if parts else text.archive.name
