"""The PASCAL-VOC format with its lists: annotations and image-set lists to labelled images.

Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 2015.
An image is positive for a class when any of its objects is annotated, difficult ones included
(VOC2012 train then has 2142 images with a person and 328 with an aeroplane).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from snojoe.data.annotation import Annotation, read_annotation
from snojoe.data.archives import Archive
from snojoe.data.found import Found, Noticed, quoted
from snojoe.data.images import is_image
from snojoe.support.errors import SnojoeError

_PART = re.compile(
    r"^(?:(?P<root>.*)/)?(?P<kind>JPEGImages|Annotations|ImageSets/Main)/(?P<name>.+)$",
    re.IGNORECASE,
)
_MARKED = re.compile(r"^(?P<name>.*?)\s+(?P<mark>-1|0|\+?1)$")


class _File(NamedTuple):
    archive: Archive
    name: str


class _Set:
    """What one set holds, from all archives: lists, annotations and images by stem."""

    def __init__(self) -> None:
        self.lists: dict[str, _File] = {}
        self.annotations: dict[str, list[_File]] = {}
        self.images: dict[str, list[_File]] = {}


class VOCDevkit:
    """One or several archives in the VOC format, joined: years, or a year in several parts.

    Parameters
    ----------
    archives : sequence of Archive
        Each holds ``<anything>/<set>/{Annotations,ImageSets/Main,JPEGImages}``, where <set> is
        VOC2012, say; without <set>, at its top, the archive names the set.
    difficult : bool
        Whether an object marked difficult makes its image positive.

    Attributes
    ----------
    lists : list of str
        Image-set lists, as ``<set>/<list>``, without the per-class ones.
    known_classes : set of str
        From the names of the per-class lists (``dog_train.txt``); empty where there are none.
    noticed : Noticed
        Where lists, annotations and the names of files say different things.
    """

    title = "PASCAL-VOC"
    class_order: Sequence[str] = ()

    def __init__(self, archives: Sequence[Archive], *, difficult: bool = True) -> None:
        self.difficult = difficult
        self.noticed = Noticed()
        self._archives = archives
        self._sets: dict[str, _Set] = {}
        self._roots: set[tuple[int, str]] = set()
        parts = [
            (archive, name, match)
            for archive in archives
            for name in archive
            if (match := _PART.match(name))
        ]
        listed = {_set_name(a, m) for a, _, m in parts if m["kind"].lower() == "imagesets/main"}
        for archive, name, match in parts:
            if (set_name := _set_name(archive, match)) in listed:
                self._take(self._sets.setdefault(set_name, _Set()), archive, name, match)
        self._class_lists = {
            (set_name, list_name)
            for set_name, voc in self._sets.items()
            for list_name in voc.lists
            if self._is_class_list(voc, list_name)
        }
        self.lists = [
            f"{set_name}/{list_name}"
            for set_name, voc in self._sets.items()
            for list_name in voc.lists
            if (set_name, list_name) not in self._class_lists
        ]
        self._known: dict[str, set[str]] = {}
        for set_name, list_name in self._class_lists:
            self._known.setdefault(set_name, set()).add(list_name.rpartition("_")[0])
        self.known_classes = set().union(*self._known.values())

    def _take(self, voc: _Set, archive: Archive, name: str, match: re.Match[str]) -> None:
        self._roots.add((id(archive), match["root"] or ""))
        stem, _, suffix = match["name"].rpartition(".")
        file = _File(archive, name)
        if match["kind"].lower() == "jpegimages":
            if is_image(name):
                voc.images.setdefault(stem, []).append(file)
        elif match["kind"].lower() == "annotations":
            if suffix.lower() == "xml":
                voc.annotations.setdefault(stem, []).append(file)
        elif suffix == "txt" and "/" not in stem:
            other = voc.lists.setdefault(stem, file)
            if other is not file and archive[name] != other.archive[other.name]:
                raise SnojoeError(
                    f"{_set_name(archive, match)}/{stem} is there twice, and differs: "
                    f"{other.archive.path}: {other.name} and {archive.path}: {name}"
                )

    def read(self, item: str) -> list[Found]:
        """Images of a list in its order, as ``<set>/<name>``.

        Raises
        ------
        SnojoeError
            If it lists nothing or is not text, or one of its images or annotations is missing,
            ambiguous or wrong.
        """
        set_name, list_name = item.split("/")
        voc = self._sets[set_name]
        where, lines = self._lines(voc, list_name)
        if not lines:
            raise SnojoeError(f"{where} lists no image")
        stems = [self._named(voc, set_name, where, line) for line in lines]
        found = [self._found(set_name, stem, item) for stem in stems]
        if all(each.labels is not None for each in found):
            labels = {
                stem: each.labels or frozenset() for stem, each in zip(stems, found, strict=True)
            }
            for line in self._disagreements(set_name, list_name, labels):
                self.noticed(line)
        return found

    def everything(self) -> list[Found]:
        """All images of all sets that have lists."""
        return [
            self._found(set_name, stem, set_name)
            for set_name, voc in self._sets.items()
            for stem in voc.images
        ]

    def covers(self, archive: Archive) -> bool:
        """Whether an archive holds some of a set that has lists."""
        return any(where == id(archive) for where, _ in self._roots)

    def is_mine(self, archive: Archive, name: str) -> bool:
        """Whether a file is a list or an annotation of a set."""
        match = _PART.match(name)
        return (
            match is not None
            and (id(archive), match["root"] or "") in self._roots
            and name.lower().endswith((".txt", ".xml"))
        )

    def _lines(self, voc: _Set, list_name: str) -> tuple[str, list[str]]:
        archive, name = voc.lists[list_name]
        lines = [line.strip() for line in archive.text(name).splitlines()]
        return f"{archive.path}: {name}", [line for line in lines if line]

    def _named(self, voc: _Set, set_name: str, where: str, line: str) -> str:
        """The stem that a line means, which may have its suffix or a mark behind it."""
        text = line.replace("\\", "/").rpartition("JPEGImages/")[2].removeprefix("./")
        if not text.isprintable() or text.startswith("/") or ".." in text.split("/"):
            raise SnojoeError(f"{where}: {line[:80]!r} is no image's name")
        marked = _MARKED.match(text)
        for name in (text, *([marked["name"]] if marked else [])):
            for stem in (name, name.rpartition(".")[0] if is_image(name) else name):
                if stem in voc.images or stem in voc.annotations:
                    return stem
        return marked["name"] if marked else text

    def _found(self, set_name: str, stem: str, item: str) -> Found:
        voc = self._sets[set_name]
        annotation = None
        where = f"{set_name}/Annotations/{stem}.xml"
        if files := voc.annotations.get(stem):
            file = _the_one(where, files)
            annotation = read_annotation(*file, difficult=self.difficult)
            if known := self._known.get(set_name, set()):
                for label in sorted(annotation.labels - known):
                    raise SnojoeError(
                        f"{where}: class {label!r} is not in the class list: "
                        f"{', '.join(sorted(known))}"
                    )
        image = self._image(set_name, stem, item, annotation)
        labels = annotation.labels if annotation else None
        return Found(f"{set_name}/{stem}", *image, labels, where)

    def _image(self, set_name: str, stem: str, item: str, annotation: Annotation | None) -> _File:
        voc = self._sets[set_name]
        named = f"{set_name}/JPEGImages/{stem}"
        files = voc.images.get(stem, [])
        if not files:
            raise SnojoeError(
                f"{item}: no image {named}.jpg for the listed {set_name}/{stem}"
                f"{self._elsewhere(stem)}"
            )
        if annotation and annotation.filename:
            folder, slash, own = stem.rpartition("/")
            other = f"{folder}{slash}{annotation.image_stem}"
            if own not in (annotation.image_stem, annotation.filename) and other in voc.images:
                self.noticed(
                    "annotations whose <filename> and own name disagree, the own name counts",
                    f"{set_name}/Annotations/{stem}.xml, which says {annotation.filename}",
                )
        names = sorted({PurePosixPath(file.name).name for file in files})
        if len(names) > 1:
            chosen = choose(named, names, annotation, self.noticed)
            files = [file for file in files if PurePosixPath(file.name).name == chosen]
        return _the_one(named, files)

    def _elsewhere(self, stem: str) -> str:
        """Where there is an image of this name instead: often, a folder of the path is missing."""
        for archive in self._archives:
            for name in archive:
                if is_image(name) and PurePosixPath(name).stem == stem:
                    return f"; there is {archive.path}: {name}"
        return ""

    def _disagreements(
        self, set_name: str, list_name: str, labels: dict[str, frozenset[str]]
    ) -> Iterator[str]:
        """Where the per-class lists beside a list say something else than the annotations."""
        voc = self._sets[set_name]
        positive = {"1", "+1", "0"} if self.difficult else {"1", "+1"}
        for label in sorted(self._known.get(set_name, set())):
            if (set_name, class_list := f"{label}_{list_name}") not in self._class_lists:
                continue
            where, lines = self._lines(voc, class_list)
            marks = {
                self._named(voc, set_name, where, match["name"] if match else line): (
                    match["mark"] if match else ""
                )
                for line in lines
                for match in [_MARKED.match(line)]
            }
            different = [i for i in labels if (marks.get(i) in positive) != (label in labels[i])]
            # CVAT leaves out of these lists what has no label at all.
            different += [i for i in labels if not marks.get(i) and (i in marks or labels[i])]
            different += [i for i in marks if i not in labels]
            if different:
                yield (
                    f"{where} and {set_name}/{list_name} with its annotations disagree on "
                    f"{len(set(different))} images, such as {set_name}/{different[0]}"
                )

    @staticmethod
    def _is_class_list(voc: _Set, list_name: str) -> bool:
        """``dog_train`` beside ``train``, with a mark (-1, 0, 1) at the end of each line."""
        prefix, _, split = list_name.rpartition("_")
        if not prefix or split not in voc.lists:
            return False
        archive, name = voc.lists[list_name]
        first = archive.text(name).strip().split("\n", 1)[0].strip()
        return bool(_MARKED.match(first)) and first not in voc.images


def choose(
    where: str, images: Sequence[str], annotation: Annotation | None, noticed: Noticed
) -> str:
    """Of several images of the same stem the one that is annotated; masks often lie beside it.

    Raises
    ------
    SnojoeError
        If neither the annotation's <filename> nor a single JPEG says which.
    """
    own = annotation.filename.replace("\\", "/").rpartition("/")[2] if annotation else ""
    chosen = [image for image in images if PurePosixPath(image).name == own] or [
        image for image in images if image.lower().endswith((".jpg", ".jpeg"))
    ]
    if len(chosen) != 1:
        raise SnojoeError(f"{where}: expected one image of its name; got {quoted(images)}")
    for image in images:
        if image != chosen[0]:
            noticed("images not used: another of the same name is annotated", image)
    return chosen[0]


def _the_one(named: str, files: Sequence[_File]) -> _File:
    """A file that several archives may hold, if it is the same in all of them."""
    first, *others = files
    for other in others:
        if other.archive[other.name] != first.archive[first.name]:
            raise SnojoeError(
                f"{named} is there twice, and differs: {first.archive.path}: {first.name} and "
                f"{other.archive.path}: {other.name}"
            )
    return first


def _set_name(archive: Archive, match: re.Match[str]) -> str:
    return (match["root"] or archive.name).rpartition("/")[2]
