"""The PASCAL-VOC format: annotations and image-set lists to a label matrix.

Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 2015.
An image is positive for a class when any of its objects is annotated, difficult ones included
(VOC2012 train then has 2142 images with a person and 328 with an aeroplane).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from snojoe.data.archives import Archive
from snojoe.support.errors import SnojoeError
from snojoe.support.text import first_line

_LIST = re.compile(r"^(?:.*/)?(?P<set>[^/]+)/ImageSets/Main/(?P<list>[^/]+)\.txt$")


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
    lists : list of str
        Image-set lists, as ``<set>/<list>``, without the per-class ones.
    known_classes : set of str
        From the names of the per-class lists (``dog_train.txt``); empty where there are none.
    """

    def __init__(self, archives: Sequence[Archive], *, difficult: bool = True) -> None:
        self.difficult = difficult
        self._archives = archives
        self._lists: dict[tuple[str, str], tuple[Archive, str]] = {}
        for archive in archives:
            for name in archive:
                if match := _LIST.match(name):
                    self._lists.setdefault((match["set"], match["list"]), (archive, name))
        self._files = {
            _last_three(name): (archive, name) for archive in archives for name in archive
        }
        self._jpegs = {
            name.rsplit(".", 1)[0]: name for name in self._files if "/JPEGImages/" in name
        }
        self.lists = [f"{s}/{n}" for s, n in self._lists if not self._is_class_list(s, n)]
        self.known_classes = {
            n.rpartition("_")[0] for s, n in self._lists if self._is_class_list(s, n)
        }

    def ids(self, item: str) -> list[str]:
        """Images of a list in its order, as ``<set>/<name>``.

        Raises
        ------
        SnojoeError
            If it lists nothing or is not text.
        """
        set_name, list_name = item.split("/")
        archive, name = self._lists[set_name, list_name]
        lines = [line.split() for line in archive.text(name).splitlines()]
        stems = [words[0] for words in lines if words]
        if not stems:
            raise SnojoeError(f"{archive.path}: {name} lists no image")
        if wrong := [stem for stem in stems if "/" in stem or not stem.isprintable()]:
            raise SnojoeError(f"{archive.path}: {name}: {wrong[0][:80]!r} is no image's name")
        return [f"{set_name}/{stem}" for stem in stems]

    def image(self, item: str, image_id: str) -> tuple[Archive, str]:
        """Archive of an image and its name there.

        Raises
        ------
        SnojoeError
            If there is none, naming the list `item` that asks for it.
        """
        stem = _inside(image_id, "JPEGImages")
        if stem not in self._jpegs:
            raise SnojoeError(f"{item}: no image {stem}.jpg for the listed {image_id}")
        return self._files[self._jpegs[stem]]

    def annotation(self, image_id: str) -> str:
        """Name of the annotation file of an image, as ``<set>/Annotations/<name>.xml``."""
        return f"{_inside(image_id, 'Annotations')}.xml"

    def labels(self, image_id: str) -> set[str] | None:
        """Class names annotated in an image, or None without an annotation file.

        Raises
        ------
        SnojoeError
            If the annotation is not one, naming it.
        """
        key = self.annotation(image_id)
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

    def disagreements(self, item: str, names: Mapping[str, set[str]]) -> Iterator[str]:
        """Where the per-class lists beside a list say something else than the annotations.

        `names` are the class names annotated in each image that was asked for.
        """
        set_name, list_name = item.split("/")
        positive = {"1", "0"} if self.difficult else {"1"}
        listed = self.ids(item)
        for label in sorted(self.known_classes):
            if (key := (set_name, f"{label}_{list_name}")) not in self._lists:
                continue
            archive, name = self._lists[key]
            lines = (line.split() for line in archive.text(name).splitlines())
            marks = {f"{set_name}/{words[0]}": words[-1] for words in lines if words}
            different = [i for i in listed if (marks.get(i) in positive) != (label in names[i])]
            different += [i for i in listed if marks.get(i) not in ("1", "0", "-1")]
            different += [i for i in marks if i not in names]
            if different:
                yield (
                    f"{archive.path}: {name} and {item} with its annotations disagree on "
                    f"{len(set(different))} images, such as {different[0]}"
                )

    def _is_class_list(self, set_name: str, list_name: str) -> bool:
        """``dog_train`` beside ``train``, with a mark (-1, 0, 1) after each name."""
        prefix, _, split = list_name.rpartition("_")
        if not prefix or (set_name, split) not in self._lists:
            return False
        archive, name = self._lists[set_name, list_name]
        return archive.text(name).split()[1:2] in (["-1"], ["0"], ["1"])


def _inside(image_id: str, folder: str) -> str:
    set_name, stem = image_id.split("/")
    return f"{set_name}/{folder}/{stem}"


def _stem(root: Element) -> str:
    return (root.findtext("filename") or "").strip().rpartition("/")[2].rpartition(".")[0]


def _last_three(name: str) -> str:
    return "/".join(name.split("/")[-3:])
