"""Names, places and labels of all images that the parameters ask for, checked; none is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snojoe.data import overlap
from snojoe.data.archives import Archive
from snojoe.data.expected import check_expected, describe
from snojoe.data.groups import Groups
from snojoe.data.images import is_image
from snojoe.data.labelled import Example, LabelledImages
from snojoe.data.left_out import describe as describe_left_out
from snojoe.data.left_out import left_out
from snojoe.data.outlier_check import check_outliers
from snojoe.data.overlap import Known, known_classes
from snojoe.params import ArchiveSource, Data
from snojoe.support.errors import SnojoeError


class Sets(NamedTuple):
    """What ``prepare`` writes and ``snojoe data-check`` shows.

    Attributes
    ----------
    classes : list of str
    splits, ood : dict of str to list of Example
        By split and by OOD set.
    identical : dict of str to list of list of str
        By OOD set, names of images that hold the same bytes.
    known : dict of str to list of Known
        By OOD set, its classes that seem to be in-distribution.
    outliers : list of Example
        What a training may be told to know nothing of; most have none.
    notes : list of str
        What a user should know; among it, what was left out.
    """

    classes: list[str]
    splits: dict[str, list[Example]]
    ood: dict[str, list[Example]]
    identical: dict[str, list[list[str]]]
    known: dict[str, list[Known]]
    outliers: list[Example]
    notes: list[str]


def read_sets(data: Data, locate: Callable[[ArchiveSource], Path], scratch: Path) -> Sets:
    """Read every archive, list and annotation.

    Parameters
    ----------
    data : Data
        The ``data`` section of the parameters.
    locate : callable
        From a source in ``data.id``, ``data.ood`` or ``data.outliers`` to its archive or folder.
    scratch : Path
        See `Archive`.

    Raises
    ------
    SnojoeError
        Naming the archive, list, annotation, class or set that is wrong, those of several sets
        together; or with a table of what differs from ``data.expected``.
    """
    problems: list[str] = []
    notes: list[str] = []
    labelled = None
    try:
        archives = [Archive(locate(source), scratch) for source in data.id]
        labelled = LabelledImages.of(data, archives).read(data.splits.model_dump())
        _check_disjoint(labelled.splits, data.test_is_val)
        notes += labelled.notes
        for path, kinds in labelled.left_out.items():
            notes += [f"{path}: {describe_left_out(kinds)}"] if kinds else []
    except SnojoeError as error:
        problems.append(str(error))
    others = {f"ood.{name}": source for name, source in data.ood.items()}
    others |= {"outliers": data.outliers} if data.outliers else {}
    read: dict[str, list[Example]] = {}
    for name, source in others.items():
        try:
            archive = Archive(locate(source), scratch)
            read[name] = _images_of(name, archive)
            if kinds := left_out(archive, set(archive)):
                notes.append(f"{name.replace('.', '/', 1)}: {describe_left_out(kinds)}")
        except SnojoeError as error:
            problems.append(str(error))
    if problems or labelled is None:
        raise SnojoeError("\n".join(problems))
    outliers = read.pop("outliers", [])
    ood = {name.removeprefix("ood."): found for name, found in read.items()}
    check_outliers(outliers, labelled.splits, ood)
    positives = positives_of(labelled.classes, labelled.splits["train"])
    identical = check_expected(data, positives, labelled.splits, ood)
    notes += [
        f"{name}: identical images: {describe(groups)}"
        for name, groups in identical.items()
        if groups
    ]
    known = {
        name: known_classes((e.image_name for e in found), labelled.classes, data.same_class)
        for name, found in ood.items()
    }
    notes += [
        f"ood/{name}: the in-distribution set seems to know {overlap.describe(classes)}; if "
        "that is so, they are no outliers and to be left out "
        f"(data.ood.{name}.classes lists what stays)"
        for name, classes in known.items()
        if classes
    ]
    paths = (each.image_name for each in outliers)
    if trained := known_classes(paths, labelled.classes, data.same_class):
        notes.append(
            f"outliers: the in-distribution set seems to know {overlap.describe(trained)}; if that "
            "is so, the training unlearns them"
        )
    return Sets(labelled.classes, labelled.splits, ood, identical, known, outliers, notes)


def positives_of(classes: Sequence[str], examples: Sequence[Example]) -> dict[str, int]:
    """Number of images that are positive for each class; empty where none has labels."""
    labelled = [example.labels for example in examples if example.labels is not None]
    if not labelled:
        return {}
    return dict(zip(classes, np.sum(labelled, axis=0, dtype=int).tolist(), strict=True))


def without_positive(split: str, positives: dict[str, int]) -> str | None:
    """A sentence on the classes of train or val that nobody shows, if there are any."""
    if not (empty := [name for name, count in positives.items() if not count]):
        return None
    why = "nothing can be learnt of it" if split == "train" else "its AP is undefined"
    return f"{split}: no image is positive for {', '.join(empty)}: {why}"


def _images_of(name: str, archive: Archive) -> list[Example]:
    """Of ``data.<name>``."""
    groups = Groups([archive])
    found = [
        Example(path, archive, path, None, groups.of(archive, path))
        for path in archive
        if is_image(path)
    ]
    if not found:
        kinds = left_out(archive, ())
        there = f"; {describe_left_out(kinds)}" if kinds else ""
        raise SnojoeError(f"data.{name}: {archive.path} holds no image{there}")
    return found


def _check_disjoint(splits: dict[str, list[Example]], test_is_val: bool) -> None:
    seen: dict[str, str] = {}
    for split, examples in splits.items():
        if split == "test" and test_is_val:
            continue
        for example in examples:
            if (other := seen.setdefault(example.id, split)) != split:
                raise SnojoeError(f"data.splits: {example.id} is in both {other} and {split}")
