"""Whether the data are those that were expected, all differences in one table."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from snojoe.data.labelled import Example
from snojoe.params import Data, Expected
from snojoe.support.errors import SnojoeError
from snojoe.support.text import aligned


class Difference(NamedTuple):
    """One row of the table."""

    set: str
    what: str
    expected: str
    found: str


def check_expected(
    data: Data,
    positives: Mapping[str, int],
    splits: Mapping[str, Sequence[Example]],
    ood: Mapping[str, Sequence[Example]],
) -> dict[str, list[list[str]]]:
    """Compare what was found with ``data.expected`` and the OOD sets' ``classes``.

    Parameters
    ----------
    data : Data
        The ``data`` section of the parameters.
    positives : mapping
        From class to number of train images that are positive for it.
    splits, ood : mapping
        From the name of a split or an OOD set to its images.

    Returns
    -------
    dict
        From OOD set to groups of names whose files hold the same bytes. They alone are no reason
        to stop: photographs repeat within ImageNet.

    Raises
    ------
    SnojoeError
        With a table of every difference, repeated images included.
    """
    repeated = {name: identical(examples) for name, examples in ood.items()}
    different = [*_counts(data, positives, splits, ood)]
    for name, examples in ood.items():
        different += _classes(name, data.ood[name].classes, examples)
    if different:
        different += [
            Difference(name, "identical images", "none", describe(groups))
            for name, groups in repeated.items()
            if groups
        ]
        header = Difference("set", "what", "expected", "found")
        table = aligned([header, *different], indent="  ")
        raise SnojoeError(
            f"the data are not those of data.expected and data.ood; nothing was written\n{table}"
        )
    return repeated


def describe(groups: Sequence[Sequence[str]]) -> str:
    """``12 groups, such as a.jpg = b.jpg``."""
    return f"{len(groups)} group{'s' * (len(groups) > 1)}, such as {' = '.join(groups[0])}"


def folders_of(example: Example) -> tuple[str, ...]:
    """Names of the folders that hold an image, the innermost last: its class is among them."""
    return PurePosixPath(example.image_name).parts[:-1]


def identical(examples: Sequence[Example]) -> list[list[str]]:
    """Names of images whose files hold the same bytes, in groups.

    Only files of the same size are read.
    """
    by_size: defaultdict[int, list[Example]] = defaultdict(list)
    for example in examples:
        by_size[example.image.size(example.image_name)].append(example)
    by_content: defaultdict[tuple[int, bytes], list[str]] = defaultdict(list)
    for size, same in by_size.items():
        if len(same) > 1:
            for example in same:
                digest = hashlib.sha256(example.image[example.image_name]).digest()
                by_content[size, digest].append(example.image_name)
    return [names for names in by_content.values() if len(names) > 1]


def _counts(
    data: Data,
    positives: Mapping[str, int],
    splits: Mapping[str, Sequence[Example]],
    ood: Mapping[str, Sequence[Example]],
) -> Iterator[Difference]:
    expected = data.expected or Expected()
    for name, count in expected.images.items():
        found = len(splits[name] if name in splits else ood[name])
        if found != count and not (name == "test" and data.test_is_val):
            yield Difference(name, "images", f"{count}", f"{found}")
    for label, count in expected.positives.items():
        if positives.get(label) != count:
            found_label = f"{positives[label]}" if label in positives else "no such class"
            yield Difference("train", f"positive for {label}", f"{count}", found_label)
    for name, count in expected.classes.items():
        found = len({folders_of(example)[-1:] for example in ood[name]})
        if found != count:
            yield Difference(name, "classes", f"{count}", f"{found}")


def _classes(
    name: str, classes: Sequence[str] | None, examples: Sequence[Example]
) -> Iterator[Difference]:
    archive = examples[0].image
    for twice in archive.brought_twice():
        yield Difference(name, twice, "one tar or folder", "two")
    if classes:
        there = {folders_of(example) for example in examples}
        for missing in sorted(set(classes) - {part for folders in there for part in folders}):
            yield Difference(name, missing, "a tar or folder", "missing")
        for extra in sorted(there):
            if not set(extra) & set(classes):
                where = "/".join(extra) or "images in no folder"
                yield Difference(name, where, "not among classes", "there")
