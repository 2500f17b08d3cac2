"""What lies in the folders and archives that a user names, before anything is made of it."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snojoe.data import overlap
from snojoe.data.archives import Archive
from snojoe.data.found import SPLITS
from snojoe.data.images import ImageError, dimensions, is_image
from snojoe.data.labelled import Example, LabelledImages
from snojoe.data.left_out import describe, left_out
from snojoe.data.overlap import known_classes
from snojoe.params import Meaning
from snojoe.support.errors import SnojoeError
from snojoe.support.text import aligned, human_size

_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
_MEASURED = 200  # images whose size is looked at
_FEW = 10  # images of a class from which little can be learnt
_FEW_OOD = 50
_SHOWN = 8
_YEAR = re.compile(r"[-_ ]?(19|20)\d\d$")  # train2017


@dataclass
class Look:
    """What is there; ``lines`` say it, ``doubts`` name what a person should decide."""

    splits: dict[str, list[str]] | dict[str, float]
    classes: list[str]
    train: int
    test: int
    edge: int  # shorter side of the middle image, in pixels
    lines: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def look(
    labelled: Sequence[Path],
    ood: Sequence[Path],
    scratch: Path,
    *,
    tables: Sequence[str | None] = (),
    meanings: Mapping[str, Meaning] | None = None,
) -> Look:
    """Read names and labels of all images, and the sizes of some.

    `tables` and `meanings` are as `LabelledImages` takes them.

    Raises
    ------
    SnojoeError
        As ``preprocess`` would, naming what is wrong with an archive.
    """
    archives = [Archive(path, scratch) for path in labelled]
    images = LabelledImages(archives, tables=tables, meanings=meanings)
    splits, said = choose_splits(images.lists)
    read = images.read(splits)
    examples = read.splits
    counts = {split: _positives(found) for split, found in examples.items()}
    edges = sorted(_edges(examples["train"]))
    found = Look(
        splits,
        read.classes,
        train=len(examples["train"]),
        test=len(examples["test"]),
        edge=round(statistics.median(edges)) if edges else 0,
    )
    for archive in archives:
        found.lines.append(f"{archive.path}: {_content(archive)}")
    found.lines += [
        f"format: {', '.join(dict.fromkeys(each.title for each in images.formats))}",
        f"lists: {', '.join(images.lists)}",
        *(f"{split}: {len(e):,} images, {_of(splits[split])}" for split, e in examples.items()),
        *said,
        f"classes: {len(read.classes)}, with the number of their images",
        _table(read.classes, counts),
    ]
    if edges:
        found.lines.append(
            f"sizes: the shorter side has {edges[0]} to {edges[-1]} pixels, {found.edge} in the "
            f"middle ({len(edges)} images looked at)"
        )
    found.doubts += [*said, *_doubts(read.classes, counts, examples), *read.notes]
    found.doubts += [f"{path}: {describe(kinds)}" for path, kinds in read.left_out.items() if kinds]
    for path in ood:
        archive = Archive(path, scratch)
        number = sum(map(is_image, archive))
        if not number:
            kinds = left_out(archive, ())
            there = f"; {describe(kinds)}" if kinds else ""
            raise SnojoeError(
                f"{path}: holds no image{there}; expected a folder or an archive of other images"
            )
        found.lines.append(f"{path}: other images, {_content(archive)}")
        if known := known_classes(filter(is_image, archive), read.classes):
            found.doubts.append(
                f"{path}: the labelled images seem to know {overlap.describe(known)}; if that is "
                "so, they are no outliers and to be left out"
            )
        if number < _FEW_OOD:
            found.doubts.append(
                f"{path}: {number} images: figures of so few are vague; some hundred are better"
            )
        if kinds := left_out(archive, set(filter(is_image, archive))):
            found.doubts.append(f"{path}: {describe(kinds)}")
    return found


def choose_splits(
    lists: Sequence[str],
) -> tuple[dict[str, list[str]] | dict[str, float], list[str]]:
    """Which lists are train, val and test, by their names, or shares; and what to say of that."""
    by_set: dict[str, dict[str, str]] = {}
    for item in lists:
        folder, _, name = item.partition("/")
        by_set.setdefault(folder, {})[_YEAR.sub("", name.lower())] = item
    chosen: dict[str, list[str]] = {split: [] for split in SPLITS}
    for names in by_set.values():
        for split, known in SPLITS.items():
            if found := next((names[name] for name in known if name in names), None):
                chosen[split].append(found)
    if not (chosen["train"] and chosen["val"]):
        return dict(_SHARES), [
            "no lists for train and val: every image goes to one split by its name, 70%, 15% and "
            "15% (data.splits). Are there several of one patient, scene or day? Then say so, in "
            "groups.csv or by data.group_pattern, so that they stay together"
        ]
    if not chosen["test"]:
        chosen["test"] = list(chosen["val"])
        return chosen, ["no test list: val is the test set, too, and the tables say so"]
    return chosen, []


def _of(split: list[str] | float) -> str:
    return f"of {' + '.join(split)}" if isinstance(split, list) else f"a share of {split:.0%}"


def _content(archive: Archive) -> str:
    images = [name for name in archive if is_image(name)]
    size = sum(archive.size(name) for name in images)
    return f"{len(images):,} images, {human_size(size)}"


def _positives(examples: Sequence[Example]) -> list[int] | None:
    labels = [example.labels for example in examples if example.labels is not None]
    return (
        [int(count) for count in sum(labels[1:], start=labels[0].astype(int))] if labels else None
    )


def _edges(examples: Sequence[Example]) -> Iterator[int]:
    for example in examples[:: max(1, len(examples) // _MEASURED)]:
        try:
            yield min(dimensions(example.image[example.image_name]))
        except ImageError:  # what does not decode is for preprocess to say
            continue


def _table(classes: Sequence[str], counts: dict[str, list[int] | None]) -> str:
    rows = [["class", *counts]]
    for i, name in enumerate(classes):
        rows.append([name, *(str(each[i]) if each else "-" for each in counts.values())])
    return aligned(rows, indent="  ")


def _doubts(
    classes: Sequence[str],
    counts: dict[str, list[int] | None],
    examples: dict[str, list[Example]],
) -> Iterator[str]:
    for one, other in _alike(classes):
        yield f"{one!r} and {other!r} are 2 classes: is one meant?"
    for split, each in counts.items():
        if each is None:
            yield f"{split}: not every image is annotated, so that no label of it counts"
            continue
        few = [f"{n} ({k})" for n, k in zip(classes, each, strict=True) if k < _FEW]
        if few and split == "train":
            yield f"train: few images to learn a class from: {_some(few)}"
        none = [n for n, k in zip(classes, each, strict=True) if not k]
        if none and split != "train":
            yield f"{split}: no image of {_some(none)}"
    val = len(examples["val"])
    vague = 196 * math.sqrt(0.95 * 0.05 / val)
    if vague > 2:
        yield (
            f"val: {val} images leave open by ± {vague:.1f} points how many are accepted where 95% "
            "are asked for"
        )


def _alike(classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names that may be one: ``Dog`` and ``dog``, ``traffic_light`` and ``traffic light``."""
    seen: dict[str, str] = {}
    for name in classes:
        plain = re.sub(r"[\s_-]+", " ", name).casefold().strip()
        if (other := seen.setdefault(plain, name)) != name:
            yield other, name


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
