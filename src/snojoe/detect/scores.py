"""Where the detectors of a model lie, and what they know of it.

A bare model needs none of `snojoe.detectors`, which takes a second to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from snojoe.experiment import Folders
from snojoe.measures.metrics import FloatArray
from snojoe.model.folder import read_calibration, read_config, weights_digest
from snojoe.support.errors import SnojoeError

if TYPE_CHECKING:
    from snojoe.detectors import Detector, ModelOutputs
    from snojoe.detectors.store import Store
    from snojoe.inference.perturbation import Noise

AUTO = "auto"
SHIPPED = "scores"
"""The folder of detectors within a model's that is shipped with them."""


def chosen_score(models: Sequence[Path]) -> str:
    """The score with the lowest FPR95 on pseudo-OOD images, mean over the models: "auto".

    Raises
    ------
    SnojoeError
        If that is not stored for each model.
    """
    known = [_belonging(model, AUTO).pseudo_fpr95 for model in models]
    shared = set.intersection(*(set(each) for each in known))
    if not shared:
        raise SnojoeError(f"{models[0]}: nothing is stored by which {AUTO} could choose a score")
    return min(sorted(shared), key=lambda score: sum(each[score] for each in known))


@dataclass(frozen=True)
class Scorer:
    """A model's detector, and the eps of the input noise that its images get."""

    detector: Detector
    eps: float = 0.0

    @property
    def name(self) -> str:
        """Of the score."""
        return self.detector.name

    @cached_property
    def noise(self) -> Noise | None:
        """The noise itself, where there is any."""
        if not self.eps:
            return None
        from snojoe.inference.perturbation import noise_of

        return noise_of(self.name, self.eps, self.detector)

    def __call__(self, outputs: ModelOutputs) -> FloatArray:
        """(n,) scores of what it is to read, clean or with its noise."""
        return self.detector.score_outputs(outputs)


def refuse_noise(scorers: Iterable[Scorer], expected: str) -> None:
    """Raise a SnojoeError that says what was expected instead if one has input noise."""
    for scorer in scorers:
        if scorer.eps:
            raise SnojoeError(
                f"score: {scorer.name} was tuned to input noise ({scorer.eps:g}), which takes a "
                f"gradient; expected {expected}"
            )


def stored_scorer(model: Path, score: str) -> Scorer:
    """The detector of a model by its name, calibrated on the images that the model is.

    Raises
    ------
    SnojoeError
        If there is no such score, no such file for this model, or it is calibrated on other images.
    """
    from snojoe.detectors import DETECTORS

    if score not in DETECTORS:
        raise SnojoeError(f"score: expected one of {', '.join(DETECTORS)}; got {score!r}")
    store, val = _belonging(model, score), read_config(model).val
    scorer = _scorer(store, score)
    own = read_calibration(model, score)
    if own is not None:
        scorer.detector.calibrate_scores(own)
    elif store.val != val.sha256:
        raise SnojoeError(
            f"{model}: calibrated on {val.source} without {score}, whose detector was not there "
            "then; expected `snojoe calibrate` again"
        )
    return scorer


def stored_scorers(model: Path) -> dict[str, Scorer]:
    """All detectors of a model that are there, by name; none where there is no folder of them."""
    store = _store(model)
    if store is None or not _belongs(store, model):
        return {}
    return {score: _scorer(store, score) for score in store.scores()}


def _scorer(store: Store, score: str) -> Scorer:
    return Scorer(store.detector(score), store.noise.get(score, 0.0))


def _belonging(model: Path, score: str) -> Store:
    store = _store(model)
    if store is None:
        places = " or ".join(str(place) for place in _places(model))
        raise SnojoeError(
            f"{model}: {score} needs its stored detector, expected in {places}: `dvc repro score` "
            "makes those of the experiment; joint_energy needs none"
        )
    if not _belongs(store, model):
        raise SnojoeError(f"{store.folder}: made for other weights than those of {model}")
    return store


def measured_scores(models: Iterable[Path], score: str) -> Mapping[str, FloatArray]:
    """What was measured: ID test and each OOD set -> (n,) mean scores of its images.

    Empty where that is not known of every model, or of other images.
    """
    found = []
    for model in models:
        store = _store(model)
        if store is None or not _belongs(store, model) or score not in store.measured:
            return {}
        found.append(store.measured[score])
    shapes = {tuple((name, each[name].shape) for name in sorted(each)) for each in found}
    if len(shapes) != 1:
        return {}
    return {name: np.mean([each[name] for each in found], axis=0) for name in found[0]}


def _store(model: Path) -> Store | None:
    for folder in filter(Path.is_dir, _places(model)):
        from snojoe.detectors.store import read_store

        return read_store(folder)
    return None


def _belongs(store: Store, model: Path) -> bool:
    return store.model == weights_digest(model)


def _places(model: Path) -> list[Path]:
    """Where a model's detectors may lie: shipped with it, or as `score` writes them."""
    places = [model / SHIPPED]
    full = model if len(model.parts) > 2 else model.absolute()
    if match := re.fullmatch(r"sn(\d+)/seed(\d+)", "/".join(full.parts[-2:])):
        folders, (sn_layers, seed) = Folders(full.parents[2]), map(int, match.groups())
        if folders.model(sn_layers, seed) == full:
            places.append(folders.detectors_of(sn_layers, seed))
    return places
