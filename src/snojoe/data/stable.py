"""An image's place as a function of its name: new images move none, another order changes nothing.

By it images are split by shares, and val is divided into the part on which a detector may choose
and the part on which it is calibrated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snojoe.data.images import SUFFIXES


def calibration_part(ids: Sequence[str], groups: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Which val images a detector is calibrated on; the others, half of them, are there to choose.

    What is fitted, tuned or chosen on images says nothing of new ones any more: thresholds come
    from images that nothing else has seen. Images with the same first group stay together; all
    that are joined by some group could be all of val.

    Parameters
    ----------
    ids : sequence of n str
        ``<set>/<name>``.
    groups : n sequences of str
        See `snojoe.data.groups`.

    Returns
    -------
    (n,) bool
    """
    keys = [
        f"group {own[0]}" if own else name_key(image_id)
        for image_id, own in zip(ids, groups, strict=True)
    ]
    # Not the number by which shares may have put the image into val.
    return np.array([number(f"calibrate {key}") < 0.5 for key in keys], dtype=bool)


def number(key: str) -> float:
    """A number in [0, 1), as good as drawn, that follows from a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def name_key(image_id: str) -> str:
    """What decides the place of an image on its own: its name within its set, without suffix."""
    name = image_id.partition("/")[2]
    return f"image {name.rpartition('.')[0] if name.lower().endswith(SUFFIXES) else name}"
