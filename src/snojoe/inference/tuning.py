"""Which T and eps? Tuned as in the protocol (Wang et al. 2021), on pseudo-OOD images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from snojoe.data.pseudo_ood import PSEUDO_OOD, Images
from snojoe.data.shards import Shards
from snojoe.data.stable import calibration_part
from snojoe.detectors.outputs import load_outputs
from snojoe.inference.perturbation import (
    Loss,
    Noise,
    mahalanobis_loss,
    noise_of,
    noisy_outputs,
    odin_loss,
    steps_against,
)
from snojoe.inference.tuned import Tuned, Tuning, read_tuning
from snojoe.measures.metrics import FloatArray, fpr_at_tpr
from snojoe.model.classifier import Classifier
from snojoe.support.processes import in_turns, is_first_process, process_count, process_number

if TYPE_CHECKING:
    from snojoe.detectors.mahalanobis import Mahalanobis

IMAGES = 1000
TEMPERATURES = (1.0, 10.0, 100.0, 1000.0)
# Of ODIN's values the paper gives number and range alone.
ODIN_EPS = tuple(np.linspace(0, 0.004, 15).round(6).tolist())
MAHALANOBIS_EPS = (0.0, 0.0005, 0.001, 0.0014, 0.002, 0.005)


def fit_mahalanobis(outputs: Path) -> Mahalanobis:
    """`Mahalanobis` on the train features in the folder that holds a model's ID outputs."""
    from snojoe.detectors.mahalanobis import Mahalanobis

    train = load_outputs(outputs / "train")
    return Mahalanobis().fit(train.features, train.labels)


def chosen_noises(outputs: Path) -> dict[str, Noise]:
    """The noise of each score that got any by tuning; `outputs` as in `fit_mahalanobis`."""
    tuning = read_tuning(outputs)
    if not tuning:
        return {}
    mahalanobis = fit_mahalanobis(outputs)
    return {
        score: noise_of(score, chosen.eps, mahalanobis)
        for score, chosen in tuning.items()
        if chosen.eps > 0
    }


def tuning_images(val: Shards, seed: int = 0) -> Images:
    """1,000 val images, drawn at random of those of no calibration, or all of them."""
    ids = val.table(["id"])["id"].to_pylist()
    there = np.flatnonzero(~calibration_part(ids, val.groups()))
    drawn = np.zeros(len(val), dtype=bool)
    drawn[np.random.default_rng(seed).permutation(there)[:IMAGES]] = True
    chosen, start = [], 0
    for batch in val.batches(128):
        chosen.append(batch.pixels[drawn[start : start + len(batch.ids)]])
        start += len(batch.ids)
    return np.concatenate(chosen)


def tune(
    model: Classifier,
    detector: Mahalanobis,
    images: Images,
    *,
    batch_size: int = 128,
    seed: int = 0,
) -> Tuning:
    """Choose ODIN's T and eps and Mahalanobis' eps by the lowest mean FPR95 on pseudo-OOD images.

    In-distribution and pseudo-OOD images get the same noise. Among equals, the least noise and the
    lowest temperature win. Several processes share the batches; the first chooses, the others'
    choice is empty.

    Parameters
    ----------
    model : Classifier
        In eval mode.
    detector : Mahalanobis
        Fitted on the model's train features.
    images : (n, H, W, 3) uint8 array
        Val images; each of the five sets of `snojoe.data.pseudo_ood` is made of them.
    """
    rng = np.random.default_rng(seed)
    id_scores = _candidates(model, detector, images, batch_size)
    fpr: dict[_Candidate, list[float]] = {candidate: [] for candidate in id_scores}
    for make in PSEUDO_OOD.values():
        ood_scores = _candidates(model, detector, make(images, rng), batch_size)
        for candidate, values in fpr.items():
            values.append(fpr_at_tpr(id_scores[candidate], ood_scores[candidate]))
    chosen: Tuning = {}
    if not is_first_process():
        return chosen
    for score in ("odin", "mahalanobis"):
        means = {c: float(np.mean(values)) for c, values in fpr.items() if c.score == score}
        best = min(means, key=lambda candidate: means[candidate])
        chosen[score] = Tuned(
            eps=best.eps, params=dict(best.params), fpr95=round(100 * means[best], 2)
        )
    return chosen


class _Candidate(NamedTuple):
    score: str
    eps: float
    params: tuple[tuple[str, float], ...] = ()


_EPS = {"logits": ODIN_EPS, "features": MAHALANOBIS_EPS}

_Perturbed = Mapping[tuple[str, float], FloatArray]
"""Field of the outputs and eps -> (n, ...) float32."""


def _candidates(
    model: Classifier, detector: Mahalanobis, images: Images, batch_size: int
) -> dict[_Candidate, FloatArray]:
    """Scores (n,) for every eps, and for ODIN every T, with the least noise first."""
    from snojoe.detectors.odin import ODIN

    losses = {"logits": odin_loss, "features": mahalanobis_loss(detector)}
    starts = range(0, len(images), batch_size)
    own = (
        _perturbed(model, losses, images[start : start + batch_size])
        for start in starts[process_number() :: process_count()]
    )
    batches: Sequence[_Perturbed] = list(in_turns(own, len(starts)))
    scores: dict[_Candidate, FloatArray] = {}
    if not is_first_process():
        return scores
    for eps in ODIN_EPS:
        array = np.concatenate([batch["logits", eps] for batch in batches])
        for temperature in TEMPERATURES:
            candidate = _Candidate("odin", eps, (("temperature", temperature),))
            scores[candidate] = ODIN(temperature).fit(array).score_samples(array)
    for eps in MAHALANOBIS_EPS:
        array = np.concatenate([batch["features", eps] for batch in batches])
        scores[_Candidate("mahalanobis", eps)] = detector.score_samples(array)
    return scores


def _perturbed(model: Classifier, losses: Mapping[str, Loss], pixels: Images) -> _Perturbed:
    """What the model says of a batch with every noise."""
    device = next(model.parameters()).device
    batch = model.normalise(torch.from_numpy(pixels).to(device))
    clean, steps = steps_against(model, batch, list(losses.values()))
    arrays = {}
    for field, step in zip(losses, steps, strict=True):
        for eps in _EPS[field]:
            outputs = noisy_outputs(model, batch, step, eps) if eps else clean
            arrays[field, eps] = getattr(outputs, field).float().cpu().numpy()
    return arrays
