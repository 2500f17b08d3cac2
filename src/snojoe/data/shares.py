"""Splits by shares, for images that nobody has split: a function of each image's name alone.

An image's place does not depend on the others, so that new images move none; only one that joins
two groups does. Images with a group in common (`snojoe.data.groups`) stay together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from snojoe.data.found import Found
from snojoe.data.stable import name_key, number
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
    keys = _keys(images)
    for image, key in zip(images, keys, strict=True):
        place = number(key)
        splits[[*shares][sum(place >= end for end in ends)]].append(image)
    for split, found in splits.items():
        if not found:
            raise SnojoeError(
                f"data.splits: none of {len(images)} images, which are {len(set(keys))} "
                f"on their own or groups, falls into {split} with a share of {shares[split]:g}; "
                "expected more images, a larger share, or lists of images"
            )
    return splits


def _keys(images: Sequence[Found]) -> list[str]:
    """What decides each image's split: its own name, or the first name of its groups."""
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
        f"group {root(image.groups[0])}" if image.groups else name_key(image.id) for image in images
    ]
