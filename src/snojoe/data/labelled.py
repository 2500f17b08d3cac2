"""In-distribution images and their labels, whatever the format of the archives that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from snojoe.data.archives import Archive
from snojoe.data.groups import Groups
from snojoe.data.label_table import LabelTable, find_tables
from snojoe.data.voc import VOCDevkit
from snojoe.support.errors import SnojoeError

Annotations: TypeAlias = VOCDevkit | LabelTable
"""Lists of images, and what is annotated in them."""


class Example(NamedTuple):
    """One image of a list; ``labels`` is None where nothing is annotated.

    Images with one of ``groups`` in common belong together: `snojoe.data.groups`.
    """

    id: str
    image: Archive
    image_name: str
    labels: np.ndarray | None
    groups: tuple[str, ...] = ()


class LabelledImages:
    """The archives of ``data.id``, joined: in the VOC format, with a ``labels.csv``, or both.

    Parameters
    ----------
    archives : sequence of Archive
    difficult : bool
        Whether an object marked difficult makes its image positive, in the VOC format.

    Attributes
    ----------
    classes : list of str
        Sorted. Those of the VOC format's per-class lists (``dog_train.txt``) and of all rows of the
        label tables, where the archives hold any; else from the annotations of the images that a
        call to ``examples`` asks for first.
    disagreements : list of str
        Where per-class lists and the annotations of the images asked for say different things.

    Raises
    ------
    SnojoeError
        If the archives hold no list of images, a label table is wrong, or two have the same name.
    """

    def __init__(self, archives: Sequence[Archive], *, difficult: bool = True) -> None:
        sources: list[Annotations] = [
            VOCDevkit(archives, difficult=difficult),
            *find_tables(archives),
        ]
        self._sources: dict[str, Annotations] = {}
        for source in sources:
            for item in source.lists:
                if item in self._sources:
                    raise SnojoeError(f"data.id: {item} is there twice")
                self._sources[item] = source
        if not self._sources:
            where = ", ".join(str(archive.path) for archive in archives)
            raise SnojoeError(
                f"{where}: expected <set>/ImageSets/Main/<list>.txt or <set>/labels.csv; found none"
            )
        self._groups = Groups(archives)
        self.classes = sorted(set().union(*(source.known_classes for source in sources)))
        self.disagreements: list[str] = []

    @property
    def lists(self) -> list[str]:
        """Lists of images, as ``<set>/<list>``."""
        return sorted(self._sources)

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
        for item in lists:
            if item not in self._sources:
                known = ", ".join(self.lists)
                raise SnojoeError(f"{item}: no such image-set list; there are {known}")
        listed = [
            (item, source, image_id)
            for item in lists
            for source in [self._sources[item]]
            for image_id in source.ids(item)
        ]
        seen: dict[str, str] = {}
        for item, _, image_id in listed:
            if image_id in seen:
                other = seen[image_id]
                where = f"twice in {item}" if other == item else f"in both {other} and {item}"
                raise SnojoeError(f"{image_id}: listed {where}")
            seen[image_id] = item

        names = {image_id: source.labels(image_id) for _, source, image_id in listed}
        unannotated = [(source, i) for _, source, i in listed if names[i] is None]
        if unannotated and labelled:
            source, image_id = unannotated[0]
            raise SnojoeError(
                f"{' + '.join(lists)}: {len(unannotated)} of {len(listed)} images have no "
                f"annotation, such as {source.annotation(image_id)}"
            )
        if unannotated:
            names = dict.fromkeys(names)
        if not self.classes:
            self.classes = sorted({name for found in names.values() for name in found or ()})
        examples = [self._example(*each, names[each[2]]) for each in listed]
        annotated = {i: found for i, found in names.items() if found is not None}
        for item in lists if annotated else ():
            source = self._sources[item]
            if isinstance(source, VOCDevkit):
                self.disagreements += source.disagreements(item, annotated)
        return examples

    def _example(
        self, item: str, source: Annotations, image_id: str, names: set[str] | None
    ) -> Example:
        archive, image_name = source.image(item, image_id)
        groups = self._groups.of(archive, image_name)
        if isinstance(source, LabelTable):
            groups = tuple(dict.fromkeys((*groups, *source.groups(image_id))))
        if names is None:
            return Example(image_id, archive, image_name, None, groups)
        for name in sorted(names - set(self.classes)):
            raise SnojoeError(
                f"{source.annotation(image_id)}: class {name!r} is not in the class list: "
                f"{', '.join(self.classes)}"
            )
        labels = np.array([name in names for name in self.classes], dtype=np.uint8)
        return Example(image_id, archive, image_name, labels, groups)
