"""Images with their PASCAL-VOC annotations, without lists: as labelling tools leave them.

The XML lies beside its image (labelImg, Roboflow) or in a folder of its own (``images/`` and
``annotations/``; ``JPEGImages/`` and ``Annotations/`` of labelme2voc). Folders called after splits
(``train``, ``valid``, ``test``) are lists; all else is in the list ``all``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from snojoe.data.annotation import read_annotation
from snojoe.data.archives import Archive
from snojoe.data.found import Found, Noticed, quoted, split_folder
from snojoe.data.images import is_image
from snojoe.data.voc import choose
from snojoe.support.errors import SnojoeError

_IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")


class XMLBeside:
    """The images of one archive, and the annotations that have their names.

    Parameters
    ----------
    archive : Archive
        It names the set.
    difficult : bool
        Whether an object marked difficult makes its image positive.

    Attributes
    ----------
    lists : list of str
        ``<set>/<folder of a split>``, or ``<set>/all``.
    known_classes : set of str
        None: only what is annotated.
    noticed : Noticed
    """

    title = "images with XML"
    class_order: Sequence[str] = ()

    def __init__(self, archive: Archive, *, difficult: bool = True) -> None:
        self.archive, self.difficult = archive, difficult
        self.known_classes: set[str] = set()
        self.noticed = Noticed()
        self._annotations: dict[str, str] = {}
        by_stem: dict[str, list[str]] = {}
        for name in archive:
            if is_image(name):
                by_stem.setdefault(_stem(name), []).append(name)
        for name in archive:
            if name.lower().endswith(".xml") and (images := by_stem.get(_stem(name))):
                self._pair(name, images)
        self._stems = {_stem(name) for name in self._annotations}
        self._lists: dict[str, list[str]] = {}
        for name in archive if self._annotations else ():
            if not is_image(name):
                continue
            if name not in self._annotations and _stem(name) in self._stems:
                self.noticed("images not used: another of the same name is annotated", name)
                continue
            self._lists.setdefault(f"{archive.name}/{split_folder(name)}", []).append(name)

    @property
    def lists(self) -> Sequence[str]:
        return list(self._lists)

    def read(self, item: str) -> list[Found]:
        """Images of a list, sorted by name; raises SnojoeError for an annotation that is wrong."""
        return [self._found(name) for name in self._lists[item]]

    def everything(self) -> list[Found]:
        """All images, annotated or not."""
        return [self._found(name) for names in self._lists.values() for name in names]

    def is_mine(self, archive: Archive, name: str) -> bool:
        """Whether a file is the annotation of an image."""
        return archive is self.archive and name in self._annotations.values()

    def _pair(self, name: str, images: Sequence[str]) -> None:
        """Find the image of an annotation: beside it, in a folder like its own, or anywhere."""
        nearest = min(_distance(name, image) for image in images)
        near = [image for image in images if _distance(name, image) == nearest]
        folders = {PurePosixPath(image).parent for image in near}
        if len(folders) > 1:
            usual = {f for f in folders if {p.lower() for p in f.parts} & {*_IMAGE_FOLDERS}}
            if len(usual) != 1:
                where = f"{self.archive.path}: {name}"
                raise SnojoeError(f"{where}: expected one image of its name; got {quoted(near)}")
            near = [image for image in near if PurePosixPath(image).parent in usual]
        (image,) = near if len(near) == 1 else (self._chosen(name, near),)
        if image in self._annotations:
            raise SnojoeError(
                f"{self.archive.path}: {image} has two annotations: {self._annotations[image]} "
                f"and {name}"
            )
        self._annotations[image] = name

    def _chosen(self, name: str, images: Sequence[str]) -> str:
        annotation = read_annotation(self.archive, name, difficult=self.difficult)
        where = f"{self.archive.path}: {name}"
        return choose(where, images, annotation, self.noticed)

    def _found(self, name: str) -> Found:
        image_id = f"{self.archive.name}/{name}"
        annotation = self._annotations.get(name)
        if annotation is None:
            return Found(image_id, self.archive, name, None, f"{self.archive.path}: {name}")
        read = read_annotation(self.archive, annotation, difficult=self.difficult)
        if _stem(name) not in (read.image_stem, read.filename) and read.image_stem in self._stems:
            self.noticed(
                "annotations whose <filename> and own name disagree, the own name counts",
                f"{self.archive.path}: {annotation}, which says {read.filename}",
            )
        where = f"{self.archive.path}: {annotation}"
        return Found(image_id, self.archive, name, read.labels, where)


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _distance(annotation: str, image: str) -> int:
    one, two = PurePosixPath(annotation).parts[:-1], PurePosixPath(image).parts[:-1]
    if one == two:
        return 0
    if len(one) == len(two) and sum(a != b for a, b in zip(one, two, strict=True)) == 1:
        return 1
    return 2 if one[:-1] == two or two[:-1] == one else 3
