"""Outliers to train with are no images of a test: else what is measured was learnt."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from snojoe.data.expected import folders_of
from snojoe.data.found import SPLIT_NAMES
from snojoe.data.labelled import Example
from snojoe.support.errors import SnojoeError

_NO_CLASS = {*SPLIT_NAMES, "", "all", "image", "images"}
"""Names of folders that say nothing of what is in them."""


def check_outliers(
    outliers: Sequence[Example],
    splits: Mapping[str, Sequence[Example]],
    ood: Mapping[str, Sequence[Example]],
) -> None:
    """Check that no OOD set has a class of the outliers, and no set one of their images.

    A class is the innermost folder of an image, whatever its capitals; an image is its bytes. Only
    files of the same size are read.

    Parameters
    ----------
    outliers : sequence of Example
    splits, ood : mapping
        From the name of a split or an OOD set to its images.

    Raises
    ------
    SnojoeError
        Naming every set that has any, and the first of its images.
    """
    classes = {name for each in outliers if (name := _class_of(each)) not in _NO_CLASS}
    problems = []
    for name, examples in ood.items():
        if shared := sorted(classes & {_class_of(each) for each in examples}):
            problems.append(
                f"data.outliers: {', '.join(shared)}: a class of data.ood.{name}, too; expected "
                "classes that nothing is tested on (where it is none, rename the folder)"
            )
    by_size: defaultdict[int, list[Example]] = defaultdict(list)
    for each in outliers:
        by_size[_size(each)].append(each)
    digests: dict[int, dict[bytes, str]] = {}
    for name, examples in {**splits, **{f"data.ood.{name}": ood[name] for name in ood}}.items():
        shared_images = []
        for each in examples:
            if (size := _size(each)) in by_size:
                if size not in digests:
                    digests[size] = {_digest(one): one.image_name for one in by_size[size]}
                if twin := digests[size].get(_digest(each)):
                    shared_images.append(f"{twin} = {each.image_name}")
        if shared_images:
            problems.append(
                f"data.outliers: {len(shared_images)} of {name}'s images, to the byte, such as "
                f"{shared_images[0]}; expected images of no other set"
            )
    if problems:
        raise SnojoeError("\n".join(problems))


def _class_of(example: Example) -> str:
    return "".join(folders_of(example)[-1:]).casefold()


def _size(example: Example) -> int:
    return example.image.size(example.image_name)


def _digest(example: Example) -> bytes:
    return hashlib.sha256(example.image[example.image_name]).digest()
