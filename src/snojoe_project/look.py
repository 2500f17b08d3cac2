"""What lies in the folders and archives that a user names, before anything is made of it."""

from __future__ import annotations

import io
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from snojoe.data.archives import Archive
from snojoe.data.images import is_image
from snojoe.data.labelled import Example, LabelledImages
from snojoe.support.errors import SnojoeError
from snojoe.support.text import aligned, human_size

# Names that tools give their lists; the first that is there counts.
_NAMES = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
_MEASURED = 200  # images whose size is looked at
_FEW = 10  # images of a class from which little can be learnt
_FEW_OOD = 50
_PART_OF_A_FORMAT = (".xml", ".txt", ".csv", ".json", ".yaml", ".yml", ".md")
_NO_CLASS = {"none", "nothing", "background", "negative", "negatives", "no label", "unlabelled"}
_SHOWN = 8


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


def look(labelled: Sequence[Path], ood: Sequence[Path], scratch: Path) -> Look:
    """Read names and labels of all images, and the sizes of some.

    Raises
    ------
    SnojoeError
        As ``preprocess`` would, naming what is wrong with an archive.
    """
    archives = [Archive(path, scratch) for path in labelled]
    images = LabelledImages(archives)
    splits, said = choose_splits(images.lists)
    examples = {
        split: images.examples(lists, labelled=split != "test") for split, lists in splits.items()
    }
    used = [example for found in examples.values() for example in found]
    counts = {split: _positives(found) for split, found in examples.items()}
    edges = sorted(_edges(examples["train"]))
    found = Look(
        splits,
        images.classes,
        train=len(examples["train"]),
        test=len(examples["test"]),
        edge=round(statistics.median(edges)) if edges else 0,
    )
    for archive in archives:
        found.lines.append(f"{archive.path}: {_format(archive)}, {_content(archive)}")
    found.lines += [
        f"lists: {', '.join(images.lists)}",
        *(
            f"{split}: {len(e):,} images, of {' + '.join(splits[split])}"
            for split, e in examples.items()
        ),
        *said,
        f"classes: {len(images.classes)}, with the number of their images",
        _table(images.classes, counts),
    ]
    if edges:
        found.lines.append(
            f"sizes: the shorter side has {edges[0]} to {edges[-1]} pixels, {found.edge} in the "
            f"middle ({len(edges)} images looked at)"
        )
    found.doubts += [*said, *_doubts(images.classes, counts, examples), *images.disagreements]
    taken = {(example.image.path, example.image_name) for example in used}
    for archive in archives:
        found.doubts += _left_out(archive, {name for path, name in taken if path == archive.path})
    for path in ood:
        archive = Archive(path, scratch)
        number = sum(map(is_image, archive))
        if not number:
            raise SnojoeError(f"{path}: holds no image; expected a folder or a tar of other images")
        found.lines.append(f"{path}: other images, {_content(archive)}")
        if number < _FEW_OOD:
            found.doubts.append(
                f"{path}: {number} images: figures of so few are vague; some hundred are better"
            )
        found.doubts += _left_out(archive, set(filter(is_image, archive)))
    return found


def choose_splits(lists: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Which lists are train, val and test, by their names; and what to say of that.

    Raises
    ------
    SnojoeError
        If there is none to learn from, or none to fit the threshold on.
    """
    by_set: dict[str, dict[str, str]] = {}
    for item in lists:
        folder, _, name = item.partition("/")
        by_set.setdefault(folder, {})[name.lower()] = item
    chosen: dict[str, list[str]] = {split: [] for split in _NAMES}
    for names in by_set.values():
        for split, known in _NAMES.items():
            if found := next((names[name] for name in known if name in names), None):
                chosen[split].append(found)
    for split in ("train", "val"):
        if not chosen[split]:
            raise SnojoeError(
                f"there are the lists {', '.join(lists)}: expected one called "
                f"{' or '.join(_NAMES[split])}"
            )
    if not chosen["test"]:
        chosen["test"] = list(chosen["val"])
        return chosen, ["no test list: val is the test set, too, and the tables say so"]
    return chosen, []


def _format(archive: Archive) -> str:
    names = {PurePosixPath(name).name for name in archive}
    voc = any("ImageSets/Main/" in name for name in archive)
    table = "labels.csv" in names
    both = " and ".join(
        name for name, is_it in (("PASCAL-VOC", voc), ("labels.csv", table)) if is_it
    )
    return both or "no labels"


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
            with Image.open(io.BytesIO(example.image[example.image_name])) as image:
                yield min(image.size)
        except Exception:  # what does not decode is for preprocess to say
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
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(name.casefold().replace("_", " ").split()), []).append(name)
    for plain, names in alike.items():
        if len(names) > 1:
            yield f"{' and '.join(map(repr, names))} are {len(names)} classes: is one meant?"
        if plain in _NO_CLASS:
            yield (
                f"{names[0]!r} counts as a class of its own: does it mean that an image shows none "
                "of the classes?"
            )
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


def _left_out(archive: Archive, used: set[str]) -> Iterator[str]:
    """Files of which nothing is made, by kind."""
    left = [name for name in archive if name not in used]
    kinds: Counter[str] = Counter()
    for name in left:
        file = PurePosixPath(name)
        if file.name.startswith(".") or "__MACOSX" in file.parts:
            kinds["hidden"] += 1
        elif is_image(name):
            kinds["images in none of the chosen lists"] += 1
        elif not name.lower().endswith(_PART_OF_A_FORMAT):
            kinds[f"{file.suffix}" or "without a suffix"] += 1
    if kinds:
        parts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        yield f"{archive.path}: left out: {parts}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
