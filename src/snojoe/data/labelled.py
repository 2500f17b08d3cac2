"""In-distribution images and their labels, whatever the format of the archives that hold them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from snojoe.data.archives import Archive
from snojoe.data.coco import CocoFiles
from snojoe.data.found import Format, Found, Noticed, quoted
from snojoe.data.groups import Groups
from snojoe.data.images import is_image
from snojoe.data.label_table import LabelTable, is_table
from snojoe.data.left_out import left_out
from snojoe.data.nus_wide import NusWide
from snojoe.data.shares import split_by_shares
from snojoe.data.voc import VOCDevkit
from snojoe.data.xml_beside import XMLBeside
from snojoe.params import Data, Meaning, Unannotated
from snojoe.support.errors import SnojoeError

# Labels that may say that there is none: what they mean is asked.
NONE_WORDS = {
    *("none", "background", "negative", "nothing", "empty", "no label", "no labels", "no finding"),
    *("unlabeled", "unlabelled", "null", "nan", "n/a", "na", "no object", "no objects"),
}


class Example(NamedTuple):
    """One image of a list; ``labels`` is None where nothing is annotated.

    Images with one of ``groups`` in common belong together: `snojoe.data.groups`.
    """

    id: str
    image: Archive
    image_name: str
    labels: np.ndarray | None
    groups: tuple[str, ...] = ()


class Labelled(NamedTuple):
    """Images by split, their classes, and what a user should know of them."""

    classes: list[str]
    splits: dict[str, list[Example]]
    notes: list[str]
    left_out: dict[str, dict[str, list[str]]]


class LabelledImages:
    """The archives of ``data.id``, joined, whatever their formats.

    Parameters
    ----------
    archives : sequence of Archive
    tables : sequence of str or None
        For each archive the name of the table in it, where it has one that is not found by itself.
    difficult : bool
        Whether an object marked difficult makes its image positive, in the VOC format.
    unannotated : "unknown" or "negative"
        What it means that nobody annotated an image.
    meanings : mapping
        From a label to what it means, if not a class.
    group_pattern : str or None
        A regular expression whose match in an image's name in its archive names its group.

    Attributes
    ----------
    formats : list of Format
    lists : list of str
        ``<set>/<list>``: what ``data.splits`` may name.
    noticed : Noticed

    Raises
    ------
    SnojoeError
        If an archive holds no labelled images, its only table is wrong, or two lists have the same
        name.
    """

    def __init__(
        self,
        archives: Sequence[Archive],
        *,
        tables: Sequence[str | None] = (),
        difficult: bool = True,
        unannotated: Unannotated = "unknown",
        meanings: Mapping[str, Meaning] | None = None,
        group_pattern: str | None = None,
    ) -> None:
        self._archives, self._difficult = archives, difficult
        self._unannotated, self._meanings = unannotated, meanings or {}
        self._pattern = re.compile(group_pattern) if group_pattern else None
        self._certain = {name for name, meaning in self._meanings.items() if meaning == "class"}
        self.noticed = Noticed()
        named = dict(zip(map(id, archives), tables, strict=False))
        searched = [archive for archive in archives if not named.get(id(archive))]
        voc = VOCDevkit(searched, difficult=difficult)
        coco = CocoFiles([a for a in searched if not voc.covers(a)], _other_labels)
        several: list[VOCDevkit | CocoFiles | NusWide] = [voc, coco, NusWide(searched)]
        self.formats: list[Format] = [each for each in several if each.lists]
        for archive in archives:
            if (table := named.get(id(archive))) is not None:
                self.formats.append(self._table(archive, table))
            else:
                covered = any(each.covers(archive) for each in several)
                self.formats += self._formats(archive, coco.wrong(archive), covered=covered)
        self._of: dict[str, Format] = {}
        for source in self.formats:
            for item in source.lists:
                if item in self._of:
                    raise SnojoeError(f"data.id: {item} is there twice")
                self._of[item] = source
        self._groups = Groups(archives)

    @classmethod
    def of(cls, data: Data, archives: Sequence[Archive]) -> LabelledImages:
        """The archives of the parameters."""
        return cls(
            archives,
            tables=[source.labels for source in data.id],
            difficult=data.difficult,
            unannotated=data.unannotated,
            meanings=data.label_meanings,
            group_pattern=data.group_pattern,
        )

    @property
    def lists(self) -> list[str]:
        return sorted(self._of)

    def read(self, splits: Mapping[str, list[str]] | Mapping[str, float]) -> Labelled:
        """Images of lists by split, or all images by shares.

        All but those of ``test`` need their annotations. A missing one there leaves the split
        without labels: VOC2012's test archive annotates some images, with some of their objects.

        Raises
        ------
        SnojoeError
            Naming the list, the image, the annotation or the label that is missing, repeated or
            wrong.
        """
        lists = {split: names for split, names in splits.items() if isinstance(names, list)}
        shares = {split: share for split, share in splits.items() if isinstance(share, float)}
        if shares:
            found = split_by_shares(self._everything(), shares)
        else:
            found = {s: self.images(names, labelled=s != "test") for s, names in lists.items()}
        seen = {
            name for images in found.values() for image in images for name in image.labels or ()
        }
        named = seen | self._known(seen)
        order = dict.fromkeys(name for source in self.formats for name in source.class_order)
        classes = [*filter(named.__contains__, order), *sorted(named - order.keys())]
        examples = {
            split: [_example(image, classes) for image in images] for split, images in found.items()
        }
        used = {(id(each.archive), each.name) for images in found.values() for each in images}
        unused = {str(archive.path): self._left_out(archive, used) for archive in self._archives}
        return Labelled(classes, examples, self._notes(found), unused)

    def images(self, lists: Iterable[str], *, labelled: bool = True) -> list[Found]:
        """Images of the given lists, in their order, with their groups and what labels mean.

        `labelled` is whether every image needs its annotation.
        """
        lists = list(lists)
        for item in lists:
            if item not in self._of:
                raise SnojoeError(f"{item}: no such list of images; {self._there()}")
        listed = [(item, image) for item in lists for image in self._of[item].read(item)]
        seen: dict[str, str] = {}
        for item, image in listed:
            if image.id in seen:
                other = seen[image.id]
                where = f"twice in {item}" if other == item else f"in both {other} and {item}"
                raise SnojoeError(f"{image.id}: listed {where}")
            seen[image.id] = item
        found = self._meant([image for _, image in listed])
        unannotated = [image for image in found if image.labels is None]
        if unannotated and labelled:
            raise SnojoeError(
                f"{' + '.join(lists)}: {len(unannotated)} of {len(found)} images have no "
                f"annotation, such as {unannotated[0].where}. If that says that they show none of "
                "the classes, set data.unannotated to negative"
            )
        return [image._replace(labels=None) for image in found] if unannotated else found

    def _table(self, archive: Archive, name: str) -> LabelTable:
        """The table that the user names."""
        if name not in archive:
            there = quoted(name for name in archive if name.lower().endswith(".csv"))
            raise SnojoeError(f"{archive.path}: no table {name!r}; there is {there or 'none'}")
        return LabelTable(archive, name, self._certain)

    def _formats(
        self, archive: Archive, wrong_coco: Sequence[str], *, covered: bool
    ) -> list[Format]:
        """What one archive holds besides what may be spread over several, if it is `covered`."""
        formats: list[Format] = []
        wrong: list[str] = []
        for name in filter(is_table, archive):
            try:
                formats.append(LabelTable(archive, name, self._certain))
            except SnojoeError as error:
                wrong.append(str(error))
        if not formats and not covered:
            beside = XMLBeside(archive, difficult=self._difficult)
            formats += [beside] if beside.lists else []
        if not formats and not covered:
            raise SnojoeError("\n".join([*wrong, *wrong_coco]) or _nothing(archive))
        for line in wrong:
            self.noticed(f"not used, since it is no table of labels: {line.splitlines()[0]}")
        for line in wrong_coco:
            self.noticed(f"not used, since it is wrong: {line.splitlines()[0]}")
        return formats

    def _everything(self) -> list[Found]:
        """All images that are annotated, each once."""
        seen: dict[tuple[int, str], Found] = {}
        for source in self.formats:
            for image in source.everything():
                other = seen.setdefault((id(image.archive), image.name), image)
                if other is not image:
                    raise SnojoeError(
                        f"{image.archive.path}: {image.name} has labels in {other.where} and in "
                        f"{image.where}; expected one of them: data.splits with lists chooses"
                    )
        found = self._meant(list(seen.values()))
        for image in found:
            if image.labels is None:
                what = "images without annotation (data.unannotated is unknown), not used"
                self.noticed(what, f"{image.archive.path}: {image.name}")
        return [image for image in found if image.labels is not None]

    def _meant(self, found: Sequence[Found]) -> list[Found]:
        """What labels mean, and all groups."""
        asked: dict[str, list[str]] = {}
        result = []
        for image in found:
            labels = image.labels
            if labels is None and self._unannotated == "negative":
                labels = frozenset()
            for name in sorted(labels or ()):
                meaning = self._meanings.get(name)
                if meaning is None and name.casefold() in NONE_WORDS:
                    asked.setdefault(name, []).append(image.where)
                elif meaning == "negative" and labels != frozenset({name}):
                    raise SnojoeError(
                        f"{image.where}: expected {name!r} alone, since it says that there is none "
                        f"(data.label_meanings); got {quoted(sorted(labels or ()))}"
                    )
                elif meaning in ("negative", "unannotated"):
                    rest = (labels or frozenset()) - {name}
                    labels = None if meaning == "unannotated" and not rest else rest
            result.append(image._replace(labels=labels, groups=self._groups_of(image)))
        if asked:
            raise SnojoeError("\n".join(_question(*each) for each in asked.items()))
        return result

    def _groups_of(self, image: Found) -> tuple[str, ...]:
        groups = [*self._groups.of(image.archive, image.name), *image.groups]
        if self._pattern and (match := self._pattern.search(image.name)):
            groups += [next((part for part in match.groups() if part), match[0])]
        elif self._pattern:
            self.noticed("images that data.group_pattern does not match, on their own", image.id)
        return tuple(dict.fromkeys(groups))

    def _known(self, seen: set[str]) -> set[str]:
        """Classes that formats name; the ``background`` of a list of classes is none by itself."""
        named = set[str]().union(*(source.known_classes for source in self.formats))
        meant = {name for name, meaning in self._meanings.items() if meaning != "class"}
        words = {n for n in named - seen if n.casefold() in NONE_WORDS and n not in self._meanings}
        return named - meant - words

    def _left_out(self, archive: Archive, used: set[tuple[int, str]]) -> dict[str, list[str]]:
        images = {name for where, name in used if where == id(archive)}
        return left_out(
            archive, images, lambda a, name: any(f.is_mine(a, name) for f in self.formats)
        )

    def _notes(self, found: Mapping[str, Sequence[Found]]) -> list[str]:
        lines = [line for source in self.formats for line in source.noticed.lines()]
        negatives = {
            split: count
            for split, images in found.items()
            if (count := sum(image.labels == frozenset() for image in images))
        }
        if negatives:
            counts = ", ".join(f"{count} of {split}" for split, count in negatives.items())
            lines.append(
                f"images that show none of the classes: {counts}. They teach; tau is fitted on the "
                "val images that have a label, and holds for such"
            )
        return [*self.noticed.lines(), *lines]

    def _there(self) -> str:
        return f"there are {', '.join(self.lists) or 'none'}, in " + ", ".join(
            f"{archive.path}" for archive in self._archives
        )


def _question(label: str, where: Sequence[str]) -> str:
    return (
        f"{where[0]}: does the label {label!r} ({len(where)} images) say that an image shows none "
        f"of the classes? Then set data.label_meanings to {{{label}: negative}}; to "
        f"{{{label}: unannotated}} if nobody looked, to {{{label}: class}} if it is a class "
        f"(snojoe init: --meaning {shlex.quote(label)}=negative, and so on)"
    )


def _nothing(archive: Archive) -> str:
    images = sum(map(is_image, archive))
    tables = [name for name in archive if name.lower().endswith(".csv")]
    xml, json = (sum(n.lower().endswith(end) for n in archive) for end in (".xml", ".json"))
    named = f"; labels: {tables[0]} beside its path in data.id takes that table" if tables else ""
    other = f"; {json} JSON files, none of which has images and categories" if json else ""
    return (
        f"{archive.path}: expected labelled images: <set>/ImageSets/Main/<list>.txt, labels.csv, "
        "an XML file with the name of each image, a COCO JSON file with images, annotations and "
        "categories, or NUS-WIDE's lists; "
        f"found {images} images, {xml} XML files, {len(tables)} tables{named}{other}"
    )


def _other_labels(archive: Archive) -> bool:
    """Whether an archive has labels of its own that are no COCO files."""
    return any(is_table(name) or name.lower().endswith(".xml") for name in archive)


def _example(image: Found, classes: Sequence[str]) -> Example:
    labels = None
    if image.labels is not None:
        labels = np.array([name in image.labels for name in classes], dtype=np.uint8)
    return Example(image.id, image.archive, image.name, labels, image.groups)
