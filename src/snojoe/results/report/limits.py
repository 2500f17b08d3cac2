"""What limits the detector, so far as its own data say; each with what would help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from snojoe.data.prepared import PreparedSets
from snojoe.measures.conformal import least_images
from snojoe.measures.metrics import FloatArray, average_precision
from snojoe.params import Data
from snojoe.results.at_work import AtWork, Share, promised_of
from snojoe.results.formatting import listed
from snojoe.results.stored import Experiment
from snojoe.support.errors import SnojoeError

# By judgement: above these there are better things to look at.
VAGUE = 2.0  # points up and down, of false alarms
VAGUE_CAUGHT = 5.0
WEAK_MAP = 70.0  # percent
FEW = 10  # images of a class
SHOWN = 8  # classes

LARGER = (500, 1000, 2000, 5000)
"""Numbers of images to calibrate on, of which it is said what they would promise."""


class Limit(NamedTuple):
    """Something that limits the detector, and what follows from that."""

    title: str
    text: str


def limits(
    experiment: Experiment,
    sn_layers: int,
    data: Data,
    sets: PreparedSets,
    classes: Sequence[str],
    work: AtWork,
) -> list[Limit]:
    """What limits the detector: nothing where nothing was found.

    Parameters
    ----------
    experiment : Experiment
    sn_layers : int
        Depth of its models.
    data : Data
    sets : PreparedSets
    classes : sequence of str
    work : AtWork
    """
    precisions = class_precisions(experiment, sn_layers)
    test = experiment.clusters()["id"]
    positives = sets.id["train"].positives
    found = [
        _of_calibration(work.calibration),
        _of_test(work.current.false_alarms, test_is_val=sets.id_test_is_val),
        _of_groups(round(test.effective), test.n),
        *(_of_ood_set(name, share) for name, share in work.current.caught.items()),
        _of_stand_ins(data),
        _of_classifier(precisions, classes),
        _of_few([(name, positives[name]) for name in classes if name in positives]),
    ]
    return [limit for limit in found if limit]


def class_precisions(experiment: Experiment, sn_layers: int) -> FloatArray:
    """Average precision of each class on val, (K,), percent, mean over seeds.

    NaN of a class that no image of val shows.

    Raises
    ------
    SnojoeError
        If the val images have no labels.
    """
    found = []
    for seed in experiment.seeds:
        val = experiment.outputs(sn_layers, seed, "val")
        if val.labels is None:
            raise SnojoeError("val: expected labelled images")
        found.append(100 * average_precision(val.labels, val.logits))
    return np.mean(found, axis=0)


def _of_calibration(n: int) -> Limit | None:
    promised = promised_of(n)
    if promised is None:
        return Limit(
            "val is too small for any promise",
            f"{n} of its images calibrate the threshold, and fewer than {least_images()} promise "
            "nothing of 95%. Half of val calibrates, of images that show a class.",
        )
    low, high = promised
    if high - low <= 2 * VAGUE:
        return None
    larger = [(size, *ends) for size in LARGER if size > n and (ends := promised_of(size))]
    return Limit(
        "val is too small for the accuracy that is asked for",
        f"The {n:,} images that calibrate the threshold leave open whether {low:.1f} or "
        f"{high:.1f}% of new images are refused. "
        + "; ".join(f"{size:,} would say {a:.1f} to {b:.1f}%" for size, a, b in larger)
        + ". Half of val calibrates; or give images of your own to snojoe calibrate.",
    )


def _of_test(alarms: Share, *, test_is_val: bool) -> Limit | None:
    if test_is_val:
        return Limit(
            "there is no test set",
            "val serves as one: what its other half says of false alarms is no surprise.",
        )
    low, high = alarms.interval
    if high - low <= 2 * VAGUE:
        return None
    return Limit(
        "the test set is small",
        f"{alarms.images:,} images leave the share of false alarms open between {low:.1f} and "
        f"{high:.1f}%.",
    )


def _of_groups(effective: int, images: int) -> Limit | None:
    if effective >= images:
        return None
    return Limit(
        "test images belong together",
        f"By their groups the {images:,} may say no more than {effective:,} independent ones: the "
        "intervals above take them for independent, and may be too narrow.",
    )


def _of_ood_set(name: str, share: Share) -> Limit | None:
    low, high = share.interval
    if high - low <= 2 * VAGUE_CAUGHT:
        return None
    return Limit(
        f"{name} is small",
        f"Of its {share.images:,} images between {low:.1f} and {high:.1f}% may be caught.",
    )


def _of_stand_ins(data: Data) -> Limit | None:
    drawn = all(source.embedded for source in data.ood.values())
    if not drawn or any(source.embedded for source in data.id):
        return None
    return Limit(
        "no image of what it shall refuse",
        "Drawn textures stand in, which are easy to tell from photographs. Images that it will "
        "meet and shall refuse, under data.ood, would say what it is worth.",
    )


def _of_classifier(precisions: FloatArray, classes: Sequence[str]) -> Limit | None:
    mean = float(np.nanmean(precisions))
    if mean >= WEAK_MAP:
        return None
    weakest = [i for i in np.argsort(precisions, kind="stable") if precisions[i] == precisions[i]]
    named = [f"{classes[i]} {precisions[i]:.0f}%" for i in weakest[:SHOWN]]
    return Limit(
        "the classifier is weak",
        f"Its mean average precision on val is {mean:.1f}%; the lowest are {listed(named)}. A "
        "network that mistakes its own classes for one another hardly tells others from them. What "
        "helps: more images, pretrained weights of a larger network, a larger data.image_size.",
    )


def _of_few(train: Sequence[tuple[str, int]]) -> Limit | None:
    few = [f"{name} ({count})" for name, count in train if count < FEW]
    if not few:
        return None
    more = len(few) - SHOWN
    named = few[:SHOWN] + ([f"{more} more"] if more > 0 else [])
    return Limit(
        "classes with few images to learn from",
        f"{listed(named)}: bring more of them, or leave the classes out.",
    )
