"""The PASCAL-VOC format: annotations and image-set lists to a label matrix.

Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 2015.
An image is positive for a class when any of its objects is annotated, difficult ones included
(VOC2012 train then has 2142 images with a person and 328 with an aeroplane).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from snojoe.data.archives import Archive
from snojoe.errors import SnojoeError
from snojoe.text import first_line

_LIST = re.compile(r"^(?:.*/)?(?P<set>[^/]+)/ImageSets/Main/(?P<list>[^/]+)\.txt$")


class Example(NamedTuple):
    """One image of an image-set list; ``labels`` is None where nothing is annotated."""

    id: str
    image: Archive
    image_name: str
    labels: np.ndarray | None


class VOCDevkit:
    """One or several archives in the VOC format, joined: years, or a year in several parts.

    Parameters
    ----------
    archives : sequence of Archive
        Each holds ``<anything>/<set>/{Annotations,ImageSets/Main,JPEGImages}``, where <set> is
        VOC2012, say.
    difficult : bool
        Whether an object marked difficult makes its image positive.

    Attributes
    ----------
    classes : list of str
        Sorted. From the names of the per-class lists (``dog_train.txt``) where the archives hold
        any, else from the annotations of the images that a call to ``examples`` asks for first.
    disagreements : list of str
        Where a per-class list and the annotations of the images asked for say different things.

    Raises
    ------
    SnojoeError
        If the archives hold no image-set list.
    """

    def __init__(self, archives: Sequence[Archive], *, difficult: bool = True) -> None:
        self.difficult = difficult
        self._archives = archives
        self._lists: dict[tuple[str, str], tuple[Archive, str]] = {}
        for archive in archives:
            for name in archive:
                if match := _LIST.match(name):
                    self._lists.setdefault((match["set"], match["list"]), (archive, name))
        if not self._lists:
            where = ", ".join(str(archive.path) for archive in archives)
            raise SnojoeError(f"{where}: expected <set>/ImageSets/Main/<list>.txt; found none")
        self._files = {
            _last_three(name): (archive, name) for archive in archives for name in archive
        }
        self._jpegs = {
            name.rsplit(".", 1)[0]: name for name in self._files if "/JPEGImages/" in name
        }
        self.classes = sorted(self._classes_of_lists())
        self.disagreements: list[str] = []

    @property
    def lists(self) -> list[str]:
        """Image-set lists, as ``<set>/<list>``, without the per-class ones."""
        return sorted(f"{s}/{n}" for s, n in self._lists if not self._is_class_list(s, n))

    def examples(self, lists: Iterable[str], *, labelled: bool = True) -> list[Example]:
        """Images of the given lists, in their order.

        Parameters
        ----------
        lists : iterable of str
            Such as ``["VOC2012/train", "VOC2007/trainval"]``.
        labelled : bool
            Whether every image needs its annotation. If not, a missing one leaves all examples
            without labels: VOC2012's test archive annotates some images, with some of their
            objects.

        Raises
        ------
        SnojoeError
            Naming the list, the image or the annotation that is missing, repeated or wrong.
        """
        lists = list(lists)
        ids = [(item, image_id) for item in lists for image_id in self._read_list(item)]
        seen: dict[str, str] = {}
        for item, image_id in ids:
            if image_id in seen:
                other = seen[image_id]
                where = f"twice in {item}" if other == item else f"in both {other} and {item}"
                raise SnojoeError(f"{image_id}: listed {where}")
            seen[image_id] = item

        objects = {image_id: self._objects(image_id) for _, image_id in ids}
        unannotated = [image_id for image_id, names in objects.items() if names is None]
        if unannotated and labelled:
            raise SnojoeError(
                f"{' + '.join(lists)}: {len(unannotated)} of {len(ids)} images have no "
                f"annotation, such as {_inside(unannotated[0], 'Annotations')}.xml"
            )
        if unannotated:
            objects = dict.fromkeys(objects)
        if not self.classes:
            self.classes = sorted({n for names in objects.values() for n in names or ()})
        column = {name: i for i, name in enumerate(self.classes)}

        examples = []
        for item, image_id in ids:
            stem = _inside(image_id, "JPEGImages")
            if stem not in self._jpegs:
                raise SnojoeError(f"{item}: no image {stem}.jpg for the listed {image_id}")
            labels = None
            if (names := objects[image_id]) is not None:
                labels = np.zeros(len(column), dtype=np.uint8)
                for name in names:
                    if name not in column:
                        raise SnojoeError(
                            f"{_inside(image_id, 'Annotations')}.xml: class {name!r} is not in "
                            f"the class list: {', '.join(self.classes)}"
                        )
                    labels[column[name]] = 1
            archive, name = self._files[self._jpegs[stem]]
            examples.append(Example(image_id, archive, name, labels))
        labelled_ids = {e.id: e.labels for e in examples if e.labels is not None}
        for item in lists if labelled_ids else ():
            self.disagreements += self._compare(item, labelled_ids)
        return examples

    def _compare(self, item: str, labels: Mapping[str, np.ndarray]) -> Iterator[str]:
        """The per-class lists beside an image-set list say once more what the annotations say."""
        set_name, list_name = item.split("/")
        positive = {"1", "0"} if self.difficult else {"1"}
        listed = self._read_list(item)
        for column, label in enumerate(self.classes):
            if (key := (set_name, f"{label}_{list_name}")) not in self._lists:
                continue
            archive, name = self._lists[key]
            lines = (line.split() for line in _text(archive, name).splitlines())
            marks = {f"{set_name}/{words[0]}": words[-1] for words in lines if words}
            different = [i for i in listed if (marks.get(i) in positive) != labels[i][column]]
            different += [i for i in listed if marks.get(i) not in ("1", "0", "-1")]
            different += [i for i in marks if i not in labels]
            if different:
                yield (
                    f"{archive.path}: {name} and {item} with its annotations disagree on "
                    f"{len(set(different))} images, such as {different[0]}"
                )

    def _read_list(self, item: str) -> list[str]:
        set_name, list_name = item.split("/")
        if (set_name, list_name) not in self._lists:
            raise SnojoeError(f"{item}: no such image-set list; there are {', '.join(self.lists)}")
        archive, name = self._lists[set_name, list_name]
        lines = [line.split() for line in _text(archive, name).splitlines()]
        stems = [words[0] for words in lines if words]
        if not stems:
            raise SnojoeError(f"{archive.path}: {name} lists no image")
        if wrong := [stem for stem in stems if "/" in stem or not stem.isprintable()]:
            raise SnojoeError(f"{archive.path}: {name}: {wrong[0][:80]!r} is no image's name")
        return [f"{set_name}/{stem}" for stem in stems]

    def _objects(self, image_id: str) -> set[str] | None:
        """Class names annotated in an image, or None without an annotation file."""
        key = f"{_inside(image_id, 'Annotations')}.xml"
        if key not in self._files:
            return None
        archive, name = self._files[key]
        try:
            root = fromstring(archive[name])
        except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
            raise SnojoeError(
                f"{archive.path}: {name} is not valid XML ({first_line(error)})"
            ) from None
        if root.tag != "annotation":
            raise SnojoeError(f"{archive.path}: {name}: expected <annotation>; got <{root.tag}>")
        other = f"{_inside(image_id, 'JPEGImages').rpartition('/')[0]}/{_stem(root)}"
        if other != _inside(image_id, "JPEGImages") and other in self._jpegs:
            raise SnojoeError(f"{archive.path}: {name} is the annotation of {other}.jpg")
        names = set()
        for thing in root.iterfind("object"):
            label = (thing.findtext("name") or "").strip()
            if not label:
                raise SnojoeError(f"{archive.path}: {name}: an <object> without a <name>")
            difficult = (thing.findtext("difficult") or "0").strip()
            if difficult not in ("0", "1"):
                raise SnojoeError(
                    f"{archive.path}: {name}: <difficult>: expected 0 or 1; got {difficult!r}"
                )
            if self.difficult or difficult == "0":
                names.add(label)
        return names

    def _classes_of_lists(self) -> set[str]:
        return {n.rpartition("_")[0] for s, n in self._lists if self._is_class_list(s, n)}

    def _is_class_list(self, set_name: str, list_name: str) -> bool:
        """``dog_train`` beside ``train``."""
        prefix, _, split = list_name.rpartition("_")
        return bool(prefix) and (set_name, split) in self._lists


def _inside(image_id: str, folder: str) -> str:
    set_name, stem = image_id.split("/")
    return f"{set_name}/{folder}/{stem}"


def _stem(root: Element) -> str:
    return (root.findtext("filename") or "").strip().rpartition("/")[2].rpartition(".")[0]


def _last_three(name: str) -> str:
    return "/".join(name.split("/")[-3:])


def _text(archive: Archive, name: str) -> str:
    try:
        return archive[name].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SnojoeError(f"{archive.path}: {name} is not UTF-8 text") from None
