"""Eq. 11, D(x; tau): logits of one or several models to a decision about each image, and why.

What is fitted on val travels with each model: tau and the labels' thresholds for people and other
programs, and the energies of the images that it is calibrated on, in their order, from which tau
follows for any acceptance and for any set of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from snojoe.measures.conformal import (
    benjamini_hochberg,
    conformal_rank,
    least_images,
    p_values,
)
from snojoe.measures.metrics import FloatArray
from snojoe.measures.thresholds import calibrated_threshold, label_thresholds
from snojoe.model.energy import joint_energy
from snojoe.model.folder import ModelConfig, Threshold, ValImages, names_digest
from snojoe.support.errors import SnojoeError

ACCEPT = 0.95
JOINT_ENERGY = "joint_energy"


@dataclass(frozen=True)
class Detection:
    """What is known of an image.

    Attributes
    ----------
    energy : float
        The joint energy (eq. 10), mean over the models; higher = more in-distribution.
    energy_std : float or None
        Its standard deviation between models, None for a single one.
    score : float
        What is decided by, mean over the models: the energy, unless another score was asked for.
    p_value : float
        Conformal p-value of being in-distribution: `snojoe.measures.conformal.p_values`.
    in_distribution : bool
        Whether `score` reaches tau.
    labels : list of str
        Those whose probability reaches their threshold, the most probable first. An image that is
        out-of-distribution has them too.
    probabilities : dict of str to float
        sigmoid(f_i) of every label, mean over the models.
    contributions : dict of str to float
        Each label's share of the energy, softplus(f_i) / E; they sum to 1.
    """

    energy: float
    energy_std: float | None
    score: float
    p_value: float
    in_distribution: bool
    labels: list[str]
    probabilities: dict[str, float]
    contributions: dict[str, float]


@dataclass(frozen=True)
class Decision:
    """The rule of one or several models.

    Parameters
    ----------
    classes : sequence of str
        Names of the K labels.
    tau : float
        Score from which on an image is in-distribution.
    label_thresholds : (K,) float64
        Probability from which on an image has a label.
    calibration : (n,) float64
        Scores of the images that it is calibrated on.
    source : str
        What these images are.
    score : str
        Name of what is decided by.
    """

    classes: Sequence[str]
    tau: float
    label_thresholds: FloatArray
    calibration: FloatArray
    source: str = "val"
    score: str = JOINT_ENERGY

    def __call__(
        self, logits: NDArray[np.floating], scores: FloatArray | None = None
    ) -> list[Detection]:
        """(models, n, K) logits -> n detections, by (models, n) scores in the energies' place."""
        logits = logits.astype(np.float64)
        energies = np.stack([joint_energy(each) for each in logits])
        energy = energies.mean(axis=0)
        std = energies.std(axis=0, ddof=1) if len(energies) > 1 else None
        score = energy if scores is None else scores.mean(axis=0)
        p = p_values(self.calibration, score)
        probabilities = expit(logits).mean(axis=0)
        # An energy of 0 has no shares.
        shares = np.logaddexp(0, logits).mean(axis=0) / np.maximum(energy, 1e-300)[:, None]
        return [
            Detection(
                energy=float(energy[i]),
                energy_std=None if std is None else float(std[i]),
                score=float(score[i]),
                p_value=float(p[i]),
                in_distribution=bool(score[i] >= self.tau),
                labels=[
                    self.classes[k]
                    for k in np.argsort(-probabilities[i], kind="stable")
                    if probabilities[i, k] >= self.label_thresholds[k]
                ],
                probabilities=dict(zip(self.classes, probabilities[i].tolist(), strict=True)),
                contributions=dict(zip(self.classes, shares[i].tolist(), strict=True)),
            )
            for i in range(logits.shape[1])
        ]


def with_false_discovery_rate(detections: Sequence[Detection], fdr: float) -> list[Detection]:
    """Decide about many images at once: of what is flagged, on average at most `fdr` is familiar.

    `snojoe.measures.conformal.benjamini_hochberg` on their p-values, in the place of tau.
    """
    flagged = benjamini_hochberg([each.p_value for each in detections], fdr)
    return [
        replace(each, in_distribution=not out)
        for each, out in zip(detections, flagged.tolist(), strict=True)
    ]


def fit_decision(
    classes: Sequence[str],
    ids: Sequence[str],
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
    calibrating: NDArray[np.bool_],
) -> tuple[dict[str, Any], FloatArray]:
    """What a model's folder is to hold of the val split.

    tau is fitted on the images for calibration that have a label: of one that shows none of the
    classes the joint energy is to be low, and those 5% are not to be spent on it. The labels'
    thresholds are chosen on the others.

    Parameters
    ----------
    classes : sequence of str
        K names.
    ids : sequence of str
        Names of the n images; models that saw the same ones can be used together.
    labels, logits : (n, K) arrays
    calibrating : (n,) bool
        `snojoe.data.shares.calibration_part`.

    Returns
    -------
    fields : dict
        ``threshold``, ``label_thresholds`` (those that maximise F1) and ``val`` of `ModelConfig`.
    energies : (m,) float64
        Of the m images that have a label.

    Raises
    ------
    SnojoeError
        If none has.
    """
    exact = np.asarray(logits, np.float64)
    shown = np.flatnonzero(calibrating & labels.any(axis=1))
    if not len(shown):
        raise SnojoeError(
            f"val: expected images with a label, to fit tau on; of {len(ids)} there is none among "
            f"the {np.count_nonzero(calibrating)} for calibration"
        )
    energies = joint_energy(exact)[shown]
    kept = [ids[i] for i in shown.tolist()]
    chosen_on = labels[~calibrating], expit(exact[~calibrating])
    cuts = label_thresholds(*chosen_on).tolist() if len(chosen_on[0]) else [np.nan] * len(classes)
    fields = {
        "threshold": Threshold(accept=ACCEPT, tau=calibrated_threshold(energies, ACCEPT)),
        "label_thresholds": {
            name: None if np.isnan(cut) else cut for name, cut in zip(classes, cuts, strict=True)
        },
        "val": ValImages(
            images=len(kept),
            sha256=names_digest(kept),
            negatives=int(np.count_nonzero(calibrating)) - len(kept),
            choosing=int(np.count_nonzero(~calibrating)),
        ),
    }
    return fields, energies


def load_decision(
    models: Mapping[str, tuple[ModelConfig, FloatArray]],
    accept: float = ACCEPT,
    confidence: float | None = None,
    score: str = JOINT_ENERGY,
) -> Decision:
    """Join what models hold of the images that they are calibrated on.

    tau is fitted on the mean scores, image by image: a mean scatters less than one model's
    score, so the mean of the models' taus would accept more than was asked for. A label's
    threshold is the mean over the models, and 1/2 where val has no positive.

    Parameters
    ----------
    models : mapping
        From the name of each model to its config and the scores that it is calibrated on.
    accept : float in (0, 1]
        Share of new in-distribution images that are to be accepted.
    confidence : float in (0, 1), optional
        See `snojoe.measures.conformal.conformal_rank`.
    score : str
        What the scores are.

    Raises
    ------
    SnojoeError
        If the models differ in their classes or val images, a share is out of range, or so few
        images cannot promise `accept` with `confidence`.
    """
    if not 0 < accept <= 1:
        raise SnojoeError(f"accept: expected a share in (0, 1], such as 0.95; got {accept}")
    if confidence is not None and not 0 < confidence < 1:
        raise SnojoeError(f"confidence: expected a share in (0, 1), such as 0.95; got {confidence}")
    first, *others = models
    for other in others:
        one, another = models[first][0], models[other][0]
        if one.classes != another.classes:
            raise SnojoeError(f"{first} and {other}: expected the same classes")
        if one.val != another.val:
            raise SnojoeError(f"{first} and {other}: expected the same images in val")
    classes = models[first][0].classes
    cuts = [
        [0.5 if (cut := config.label_thresholds[name]) is None else cut for name in classes]
        for config, _ in models.values()
    ]
    source = models[first][0].val.source
    scores = np.mean([scores for _, scores in models.values()], axis=0)
    if confidence is not None and not conformal_rank(len(scores), accept, confidence):
        raise SnojoeError(
            f"{first}: calibrated on {len(scores)} images of {source}, which cannot promise "
            f"{accept:.6g} with confidence {confidence:g}; expected at least "
            f"{least_images(accept, confidence) if accept < 1 else 'infinitely many'}"
        )
    tau = calibrated_threshold(scores, accept, confidence)
    return Decision(classes, tau, np.mean(cuts, axis=0), scores, source, score)
