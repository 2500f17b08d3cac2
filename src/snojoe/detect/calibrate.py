"""A new threshold for a model, from images that are like those which it will see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snojoe.data.images import ImageError
from snojoe.data.stable import number
from snojoe.detect.image_detector import ImageDetector
from snojoe.detect.scores import Scorer
from snojoe.measures.conformal import least_images
from snojoe.measures.metrics import FloatArray
from snojoe.measures.thresholds import calibrated_threshold
from snojoe.model.decision import ACCEPT, JOINT_ENERGY
from snojoe.model.energy import joint_energy
from snojoe.model.folder import Threshold, ValImages, names_digest, write_calibration
from snojoe.support.errors import SnojoeError


@dataclass(frozen=True)
class Scores:
    """Names and scores of images, and what could not be read, with the reason.

    Attributes
    ----------
    names : list of str
        Of n images.
    values : mapping of str to (n,) float64 array
        What the joint energy and each other score with a stored detector say of them.
    unreadable : list of str
    """

    names: list[str]
    values: Mapping[str, FloatArray]
    unreadable: list[str]

    @property
    def energies(self) -> FloatArray:
        """(n,) joint energies."""
        return self.values[JOINT_ENERGY]

    def held_out(self, share: float) -> tuple[Scores, Scores]:
        """Those to calibrate on, and a share that is not, by name: adding images moves none."""
        apart = np.array(
            [number(f"hold out {Path(name).name}") < share for name in self.names], dtype=bool
        )
        return self._rows(~apart, self.unreadable), self._rows(apart, [])

    def _rows(self, chosen: NDArray[np.bool_], unreadable: list[str]) -> Scores:
        names = [name for name, each in zip(self.names, chosen, strict=True) if each]
        values = {score: values[chosen] for score, values in self.values.items()}
        return Scores(names, values, unreadable)


def scores_of(
    detector: ImageDetector, scorers: Mapping[str, Scorer], files: Iterable[str]
) -> Scores:
    """The joint energy of each image, and what the detectors of the model say of it."""
    names: list[str] = []
    unreadable: list[str] = []
    rows: list[tuple[float, ...]] = []
    others = [scorer for name, scorer in scorers.items() if name != JOINT_ENERGY]

    def score(pixels: NDArray[np.uint8]) -> list[tuple[float, ...]]:
        (logits,), (scores,) = detector.scored(pixels, [others])
        energies = joint_energy(logits.astype(np.float64))
        return list(zip(energies.tolist(), *(each.tolist() for each in scores), strict=True))

    for name, result in detector.mapped(files, score):
        if isinstance(result, ImageError):
            unreadable.append(f"{name}: {result}")
        else:
            names.append(str(name))
            rows.append(result)
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), 1 + len(others)).T
    scores = [JOINT_ENERGY, *(scorer.name for scorer in others)]
    values = {
        score: np.ascontiguousarray(each) for score, each in zip(scores, columns, strict=True)
    }
    return Scores(names, values, unreadable)


def calibrate(folder: Path, scores: Scores, source: str) -> float:
    """Let a model's thresholds follow from these images, which are all in-distribution.

    Parameters
    ----------
    folder : Path
        Of the model; its weights and its detectors are not touched.
    scores : Scores
        By this model.
    source : str
        What the images are, for ``config.json`` and for people.

    Returns
    -------
    float
        tau of the joint energy for the usual acceptance.

    Raises
    ------
    SnojoeError
        If there are too few images to promise it.
    """
    least = least_images(ACCEPT)
    if len(scores.energies) < least:
        raise SnojoeError(
            f"{source}: expected at least {least} images to promise that {100 * ACCEPT:g}% of new "
            f"ones are accepted; got {len(scores.energies)}"
        )
    tau = calibrated_threshold(scores.energies, ACCEPT)
    digest = names_digest(scores.names)
    val = ValImages(images=len(scores.names), sha256=digest, source=source)
    write_calibration(folder, Threshold(accept=ACCEPT, tau=tau), val, scores.values)
    return tau
