"""What somebody has brought, before there are parameters: a description, and what is doubtful."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snojoe.data.archives import Archive
from snojoe.data.found import SPLITS, Found, quoted
from snojoe.data.groups import Groups
from snojoe.data.images import ImageError, dimensions, is_image
from snojoe.data.labelled import NONE_WORDS, LabelledImages
from snojoe.data.left_out import describe, left_out
from snojoe.support.errors import SnojoeError

_FEW = 10  # images of a class, of which val and test are to have some
_SAMPLE = 200


@dataclass(frozen=True)
class Edges:
    """Shorter edges of some images, in pixels."""

    least: int
    median: int
    most: int


@dataclass(frozen=True)
class LabelledLook:
    """What archives of labelled images hold.

    Attributes
    ----------
    formats : list of str
        For people: "PASCAL-VOC", "images with XML", "a table of labels".
    lists : dict of str to int
        Images of each ``<set>/<list>``.
    splits : dict of str to list of str
        The lists whose names say that they are for train, val or test; a split that there is not
        is missing.
    images, annotated, negatives, grouped : int
        Number of images in all, of those with an annotation, of those whose annotation says that
        they show no class, and of those that belong with others.
    classes : dict of str to int
        Images of each label, the most frequent first.
    asked : list of str
        Labels such as ``none``, for which ``data.label_meanings`` has to say what they mean.
    size : int
        Bytes of the images.
    edges : Edges or None
        None where no image could be opened.
    doubts : list of str
        What a person should look at.
    left_out : list of str
        What is not used, by archive.
    """

    formats: list[str]
    lists: dict[str, int]
    splits: dict[str, list[str]]
    images: int
    annotated: int
    negatives: int
    grouped: int
    classes: dict[str, int]
    asked: list[str]
    size: int
    edges: Edges | None
    doubts: list[str]
    left_out: list[str]


@dataclass(frozen=True)
class OODLook:
    """What an archive of other images holds; ``folders`` is the number of those with images."""

    images: int
    folders: int
    size: int
    edges: Edges | None
    left_out: list[str]


def source_of(path: Path) -> tuple[Path, str | None]:
    """Archive or folder of what somebody names, and the table in it where they name a table.

    They are ``path`` and ``labels`` of an entry of ``data.id``.
    """
    return (path.parent, path.name) if path.suffix.lower() == ".csv" else (path, None)


def look_at_labelled(paths: Sequence[Path], scratch: Path) -> LabelledLook:
    """Look at archives, folders and tables (see `source_of`) as ``data.id`` would read them.

    Parameters
    ----------
    paths : sequence of Path
    scratch : Path
        See `Archive`.

    Raises
    ------
    SnojoeError
        Where preprocess would not read them, whatever the splits: naming what is wrong.
    """
    sources = [source_of(path) for path in paths]
    archives = [Archive(path, scratch) for path, _ in sources]
    labelled = LabelledImages(archives, tables=[table for _, table in sources])
    found = list(
        {(id(i.archive), i.name): i for f in labelled.formats for i in f.everything()}.values()
    )
    counts = Counter(name for image in found for name in image.labels or ())
    groups = Groups(archives)
    used = {(id(image.archive), image.name) for image in found}
    unused = []
    for archive in archives:
        images = {name for where, name in used if where == id(archive)}
        kinds = left_out(
            archive, images, lambda a, name: any(f.is_mine(a, name) for f in labelled.formats)
        )
        unused += [f"{archive.path}: {describe(kinds)}"] if kinds else []
    lists = {item: len(f.read(item)) for f in labelled.formats for item in f.lists}
    noticed = [*labelled.noticed.lines(), *(n for f in labelled.formats for n in f.noticed.lines())]
    return LabelledLook(
        formats=list(dict.fromkeys(f.title for f in labelled.formats)),
        lists=lists,
        splits=_splits(lists),
        images=len(found),
        annotated=sum(image.labels is not None for image in found),
        negatives=sum(image.labels == frozenset() for image in found),
        grouped=sum(bool(i.groups or groups.of(i.archive, i.name)) for i in found),
        classes=dict(counts.most_common()),
        asked=sorted(name for name in counts if name.casefold() in NONE_WORDS),
        size=sum(image.archive.size(image.name) for image in found),
        edges=_edges([(image.archive, image.name) for image in found]),
        doubts=[*_doubts(found, counts), *noticed],
        left_out=unused,
    )


def look_at_ood(path: Path, scratch: Path) -> OODLook:
    """Look at an archive or a folder as ``data.ood`` would read it.

    Raises
    ------
    SnojoeError
        If it is not there, is damaged, or holds no image.
    """
    archive = Archive(path, scratch)
    images = [name for name in archive if is_image(name)]
    kinds = left_out(archive, set(images))
    unused = [f"{path}: {describe(kinds)}"] if kinds else []
    if not images:
        raise SnojoeError(f"{path}: holds no image{f'; {unused[0]}' if unused else ''}")
    return OODLook(
        images=len(images),
        folders=len({name.rpartition("/")[0] for name in images}),
        size=sum(map(archive.size, images)),
        edges=_edges([(archive, name) for name in images]),
        left_out=unused,
    )


def _splits(lists: dict[str, int]) -> dict[str, list[str]]:
    """Lists by split, where their names say it; of train and trainval, train."""
    named: dict[str, list[str]] = {}
    for split, names in SPLITS.items():
        for name in names:
            if split not in named:
                items = [item for item in lists if item.partition("/")[2].lower() == name]
                named |= {split: items} if items else {}
    return named


def _edges(images: Sequence[tuple[Archive, str]]) -> Edges | None:
    """Of images at equal distances, from their headers."""
    step = -(-len(images) // _SAMPLE) or 1
    edges = []
    for archive, name in images[::step]:
        try:
            edges.append(min(dimensions(archive[name])))
        except ImageError:
            continue
    return Edges(min(edges), int(np.median(edges)), max(edges)) if edges else None


def _doubts(found: Sequence[Found], counts: Counter[str]) -> Iterator[str]:
    for name, count in sorted(counts.items(), key=lambda each: each[1]):
        if count < _FEW:
            images = "1 image" if count == 1 else f"{count} images"
            yield f"class {name!r} has {images}: too few to learn it and to measure it"
    for one, other in _alike(sorted(counts)):
        yield f"classes {one!r} ({counts[one]}) and {other!r} ({counts[other]}): are they one?"
    several = [name for name in counts if " " in name]
    words = Counter(word for name in counts for word in set(name.split()))
    if len(several) > len(counts) / 2 and any(words[w] > 2 for n in several for w in n.split()):
        yield f"labels {quoted(several)}: are they several, joined by blanks? Expected ; or |"
    for name in sorted(name for name in counts if name.casefold() in NONE_WORDS):
        yield f"label {name!r} ({counts[name]}): does it say that an image shows no class?"
    if missing := sum(image.labels is None for image in found):
        yield f"{missing} of {len(found)} images are not annotated: do they show no class?"


def _alike(classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names that may be one: ``Dog`` and ``dog``, ``traffic_light`` and ``traffic light``."""
    seen: dict[str, str] = {}
    for name in classes:
        plain = re.sub(r"[\s_-]+", " ", name).casefold().strip()
        if (other := seen.setdefault(plain, name)) != name:
            yield other, name
