"""Splits by shares, for images that nobody has split: a function of each image's name alone.

An image's place does not depend on the others, so that new images move none; only one that joins
two groups does. Images with a group in common (`snojoe.data.groups`) stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate

from snojoe.data.found import Found
from snojoe.data.images import SUFFIXES
from snojoe.support.errors import SnojoeError


def split_by_shares(images: Sequence[Found], shares: Mapping[str, float]) -> dict[str, list[Found]]:
    """Images by split, in their order; `shares` sum to 1 and are met on average.

    Raises
    ------
    SnojoeError
        If a split gets no image.
    """
    splits: dict[str, list[Found]] = {split: [] for split in shares}
    ends = list(accumulate(shares.values()))[:-1]
    for image, key in zip(images, _keys(images), strict=True):
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
        splits[[*shares][sum(number >= end for end in ends)]].append(image)
    for split, found in splits.items():
        if not found:
            raise SnojoeError(
                f"data.splits: none of {len(images)} images, which are {len(set(_keys(images)))} "
                f"on their own or groups, falls into {split} with a share of {shares[split]:g}; "
                "expected more images, a larger share, or lists of images"
            )
    return splits


def _keys(images: Sequence[Found]) -> list[str]:
    """What decides each image's split: its name within its set, or the first name of its groups."""
    parents: dict[str, str] = {}

    def root(group: str) -> str:
        while parents.setdefault(group, group) != group:
            parents[group] = group = parents[parents[group]]
        return group

    for image in images:
        for group in image.groups[1:]:
            # The first in the alphabet stands for all that are joined.
            low, high = sorted([root(image.groups[0]), root(group)])
            parents[high] = low
    return [
        f"group {root(image.groups[0])}" if image.groups else f"image {_name(image.id)}"
        for image in images
    ]


def _name(image_id: str) -> str:
    name = image_id.partition("/")[2]
    return name.rpartition(".")[0] if name.lower().endswith(SUFFIXES) else name
