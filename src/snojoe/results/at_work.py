"""What does the detector do? False alarms, what is caught, and whether another score does better.

It is what ``snojoe detect`` does by default: the models of every seed decide together, by the mean
of their joint energies, at the threshold that is calibrated for 95%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snojoe.detectors import DETECTORS, JointEnergy
from snojoe.detectors.store import ID, Store, read_store
from snojoe.measures.conformal import accepted_interval, conformal_rank, share_interval
from snojoe.measures.metrics import FloatArray
from snojoe.measures.thresholds import calibrated_threshold
from snojoe.results.formatting import listed
from snojoe.results.stored import Experiment

MOST = 3
"""Scores that are named for one reason."""


@dataclass(frozen=True)
class Share:
    """How many of so many images."""

    count: int
    images: int

    @property
    def percent(self) -> float:
        return 100 * self.count / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's, 95%, in percent; of images that are independent of one another."""
        low, high = share_interval(self.count, self.images)
        return 100 * low, 100 * high

    @property
    def ends(self) -> str:
        """``[2.0, 4.3]``."""
        low, high = self.interval
        return f"[{low:.1f}, {high:.1f}]"

    @property
    def text(self) -> str:
        """``3.0% [2.0, 4.3]``."""
        return f"{self.percent:.1f}% {self.ends}"


class ScoreAtWork(NamedTuple):
    """What a score does to the test images, at the threshold that it is calibrated for.

    Attributes
    ----------
    score : str
    pseudo_fpr95 : float or None
        Its mean FPR95 on pseudo-OOD images, in percent, where these are known.
    false_alarms : Share
        Of the ID test images for which the threshold promises anything.
    caught : dict of OOD set to Share
    """

    score: str
    pseudo_fpr95: float | None
    false_alarms: Share
    caught: dict[str, Share]

    @property
    def title(self) -> str:
        return DETECTORS[self.score].title

    @property
    def mean_caught(self) -> float:
        """Over the OOD sets, in percent."""
        return float(np.mean([share.percent for share in self.caught.values()]))


@dataclass(frozen=True)
class AtWork:
    """The detector, and what every other score would do in joint energy's place.

    Attributes
    ----------
    models : sequence of Path
        The models that decide together.
    calibration : int
        Number of images that they are calibrated on.
    current : ScoreAtWork
        Joint energy.
    others : sequence of ScoreAtWork
    """

    models: Sequence[Path]
    calibration: int
    current: ScoreAtWork
    others: Sequence[ScoreAtWork]

    @property
    def promised(self) -> tuple[float, float] | None:
        """Between which shares of new ID images are refused, in percent; see `promised_of`."""
        return promised_of(self.calibration)

    @property
    def better_by_pseudo(self) -> list[ScoreAtWork]:
        """The best on pseudo-OOD images, where better than joint energy: chosen without OOD images.

        The first is what ``--score auto`` takes.
        """
        mine = self.current.pseudo_fpr95
        better = [
            (each.pseudo_fpr95, i)
            for i, each in enumerate(self.others)
            if mine is not None and each.pseudo_fpr95 is not None and each.pseudo_fpr95 < mine
        ]
        return [self.others[i] for _, i in sorted(better)[:MOST]]

    @property
    def better_in_hindsight(self) -> list[ScoreAtWork]:
        """The best others on the OOD sets themselves, where better than joint energy."""
        named = {each.score for each in self.better_by_pseudo}
        better = [
            each
            for each in self.others
            if each.score not in named and each.mean_caught > self.current.mean_caught
        ]
        return sorted(better, key=lambda each: -each.mean_caught)[:MOST]

    @property
    def sentence(self) -> str:
        """What it does, in one sentence."""
        alarms = self.current.false_alarms
        caught = [f"{share.text} of {name}" for name, share in self.current.caught.items()]
        return (
            f"It refuses {alarms.text} of {alarms.images:,} in-distribution test images, where 5% "
            f"are asked for, and catches {listed(caught)}."
        )


def promised_of(calibration: int) -> tuple[float, float] | None:
    """Between which shares of new ID images are refused, by the draw of so many: 95%, percent.

    None where they are too few for any promise.
    """
    rank = conformal_rank(calibration)
    if not rank:
        return None
    low, high = accepted_interval(calibration, rank)
    return 100 * (1 - high), 100 * (1 - low)


def at_work(experiment: Experiment, sn_layers: int) -> AtWork:
    """From the stored detectors of the models of a depth.

    Raises
    ------
    SnojoeError
        If a folder of detectors is missing or damaged.
    """
    folders = experiment.folders
    stores = [read_store(folders.detectors_of(sn_layers, seed)) for seed in experiment.seeds]
    shared = set.intersection(*(set(store.measured) for store in stores))
    scores = {name: _score_at_work(stores, name) for name in DETECTORS if name in shared}
    current = scores.pop(JointEnergy.name)
    return AtWork(
        models=[folders.model(sn_layers, seed) for seed in experiment.seeds],
        calibration=len(stores[0].calibration(JointEnergy.name)),
        current=current,
        others=list(scores.values()),
    )


def _score_at_work(stores: Sequence[Store], score: str) -> ScoreAtWork:
    tau = calibrated_threshold(np.mean([store.calibration(score) for store in stores], axis=0))
    sets = {
        name: np.mean([store.measured[score][name] for store in stores], axis=0)
        for name in stores[0].measured[score]
    }
    pseudo = [store.pseudo_fpr95[score] for store in stores if score in store.pseudo_fpr95]
    return ScoreAtWork(
        score,
        100 * float(np.mean(pseudo)) if len(pseudo) == len(stores) else None,
        _below(sets.pop(ID), tau),
        {name: _below(values, tau) for name, values in sets.items()},
    )


def _below(scores: FloatArray, tau: float) -> Share:
    return Share(int((scores < tau).sum()), len(scores))
