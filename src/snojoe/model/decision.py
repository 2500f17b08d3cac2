"""Eq. 11, D(x; tau): logits of one or several models to a decision about each image, and why.

What is fitted on val travels with each model: tau and the labels' thresholds for people and other
programs, and the energies of the val images that have a label, in their order, from which tau
follows for any acceptance and for any set of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from snojoe.measures.metrics import FloatArray
from snojoe.measures.thresholds import acceptance_threshold, label_thresholds
from snojoe.model.energy import joint_energy
from snojoe.model.folder import ModelConfig, Threshold, ValImages
from snojoe.support.errors import SnojoeError

ACCEPT = 0.95


@dataclass(frozen=True)
class Detection:
    """What is known of an image.

    Attributes
    ----------
    energy : float
        The joint energy (eq. 10), mean over the models; higher = more in-distribution.
    energy_std : float or None
        Its standard deviation between models, None for a single one.
    in_distribution : bool
        Whether `energy` reaches tau.
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
        Energy from which on an image is in-distribution.
    label_thresholds : (K,) float64
        Probability from which on an image has a label.
    """

    classes: Sequence[str]
    tau: float
    label_thresholds: FloatArray

    def __call__(self, logits: NDArray[np.floating]) -> list[Detection]:
        """(models, n, K) logits -> n detections."""
        logits = logits.astype(np.float64)
        energies = np.stack([joint_energy(each) for each in logits])
        energy = energies.mean(axis=0)
        std = energies.std(axis=0, ddof=1) if len(energies) > 1 else None
        probabilities = expit(logits).mean(axis=0)
        # An energy of 0 has no shares.
        shares = np.logaddexp(0, logits).mean(axis=0) / np.maximum(energy, 1e-300)[:, None]
        return [
            Detection(
                energy=float(energy[i]),
                energy_std=None if std is None else float(std[i]),
                in_distribution=bool(energy[i] >= self.tau),
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


def fit_decision(
    classes: Sequence[str],
    ids: Sequence[str],
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
) -> tuple[dict[str, Any], FloatArray]:
    """What a model's folder is to hold of the val split.

    tau is fitted on the images that have a label: of one that shows none of the classes the joint
    energy is to be low, and those 5% are not to be spent on it.

    Parameters
    ----------
    classes : sequence of str
        K names.
    ids : sequence of str
        Names of the n images; models that saw the same ones can be used together.
    labels, logits : (n, K) arrays

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
    shown = np.asarray(labels).any(axis=1)
    if not shown.any():
        raise SnojoeError("val: expected images with a label, to fit tau on; there is none")
    energies = joint_energy(exact)[shown]
    kept = [name for name, is_shown in zip(ids, shown, strict=True) if is_shown]
    cuts = label_thresholds(labels, expit(exact)).tolist()
    fields = {
        "threshold": Threshold(accept=ACCEPT, tau=acceptance_threshold(energies, ACCEPT)),
        "label_thresholds": {
            name: None if np.isnan(cut) else cut for name, cut in zip(classes, cuts, strict=True)
        },
        "val": ValImages(
            images=len(kept),
            sha256=hashlib.sha256("\n".join(kept).encode()).hexdigest(),
            negatives=len(ids) - len(kept),
        ),
    }
    return fields, energies


def load_decision(
    models: Mapping[str, tuple[ModelConfig, FloatArray]], accept: float = ACCEPT
) -> Decision:
    """Join what models hold of the val split.

    tau is fitted on the mean energies of the val images, image by image: a mean scatters less than
    one model's energy, so the mean of the models' taus would accept more than was asked for. A
    label's threshold is the mean over the models, and 1/2 where val has no positive.

    Parameters
    ----------
    models : mapping
        From the name of each model to its config and the energies of its val images.
    accept : float in (0, 1]
        Share of the val images that are to be in-distribution.

    Raises
    ------
    SnojoeError
        If the models differ in their classes or val images, or `accept` is out of range.
    """
    if not 0 < accept <= 1:
        raise SnojoeError(f"accept: expected a share in (0, 1], such as 0.95; got {accept}")
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
    energies = np.mean([energies for _, energies in models.values()], axis=0)
    return Decision(classes, acceptance_threshold(energies, accept), np.mean(cuts, axis=0))
