"""Every score against every OOD set: the long tables behind Tables 2 and 3, in percent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from snojoe.detectors import DETECTORS, JointEnergy, fit_detector
from snojoe.errors import SnojoeError
from snojoe.metrics import (
    FloatArray,
    aupr,
    auroc,
    average_precision,
    fpr_at_tpr,
    interpolated_average_precision,
)
from snojoe.outputs import ModelOutputs, load_head, load_outputs

METRICS = ("fpr95", "auroc", "aupr")


@dataclass(frozen=True)
class Experiment:
    """Where the models and outputs of an experiment lie.

    Parameters
    ----------
    models : Path
        Holds ``sn<L>/seed<S>/`` with ``config.json`` and ``history.csv``.
    outputs : Path
        Holds ``sn<L>/{id,ood}/seed<S>/<set>/`` with the arrays.
    ood_sets : sequence of str
        Names of the OOD sets.
    seeds : sequence of int
    """

    models: Path
    outputs: Path
    ood_sets: Sequence[str]
    seeds: Sequence[int]

    def model(self, sn_layers: int, seed: int) -> Path:
        return self.models / f"sn{sn_layers}" / f"seed{seed}"

    def id(self, sn_layers: int, seed: int, split: str) -> ModelOutputs:
        return load_outputs(self.outputs / f"sn{sn_layers}" / "id" / f"seed{seed}" / split)

    def ood(self, sn_layers: int, seed: int, name: str) -> ModelOutputs:
        return load_outputs(self.outputs / f"sn{sn_layers}" / "ood" / f"seed{seed}" / name)

    def config(self, sn_layers: int, seed: int) -> dict[str, Any]:
        """What was stored with the model."""
        path = self.model(sn_layers, seed) / "config.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SnojoeError(f"{path}: not readable ({error})") from None
        return content

    def history(self, depths: Iterable[int]) -> pd.DataFrame:
        """Loss and mAP per epoch, with columns ``sn_layers`` and ``seed``."""
        frames = [
            pd.read_csv(self.model(depth, seed) / "history.csv").assign(sn_layers=depth, seed=seed)
            for depth in dict.fromkeys(depths)
            for seed in self.seeds
        ]
        return pd.concat(frames, ignore_index=True)


def ood_metrics(id_scores: FloatArray, ood_scores: FloatArray) -> dict[str, float]:
    """FPR95, AUROC and AUPR in percent; in-distribution is the positive class."""
    return {
        "fpr95": 100 * fpr_at_tpr(id_scores, ood_scores),
        "auroc": 100 * auroc(id_scores, ood_scores),
        "aupr": 100 * aupr(id_scores, ood_scores),
    }


def score_grid(experiment: Experiment, sn_layers: int) -> pd.DataFrame:
    """Every score on the control and on the SN model, against every OOD set, for every seed.

    Returns
    -------
    DataFrame
        Columns ``ood_set``, ``score``, ``model`` ("control" or "sn"), ``sn_layers``, ``seed``,
        ``fpr95``, ``auroc``, ``aupr`` (percent).
    """
    rows = []
    for model, depth in (("control", 0), ("sn", sn_layers)):
        for seed in experiment.seeds:
            head = load_head(experiment.model(depth, seed))
            train, val, test = (experiment.id(depth, seed, s) for s in ("train", "val", "test"))
            ood = {name: experiment.ood(depth, seed, name) for name in experiment.ood_sets}
            for score in DETECTORS:
                detector = fit_detector(score, train, val, head)
                id_scores = detector.score_outputs(test)
                for name, outputs in ood.items():
                    cell = {"ood_set": name, "score": score, "model": model, "sn_layers": depth}
                    metrics = ood_metrics(id_scores, detector.score_outputs(outputs))
                    rows.append({**cell, "seed": seed, **metrics})
    order = {score: i for i, score in enumerate(DETECTORS)}
    frame = pd.DataFrame(rows)
    return frame.sort_values(
        ["ood_set", "score", "model", "seed"],
        key=lambda column: column.map(order) if column.name == "score" else column,
        ignore_index=True,
    )


def depth_grid(experiment: Experiment, depths: Iterable[int]) -> pd.DataFrame:
    """JointEnergy for every depth of spectral normalisation, OOD set and seed (Table 3).

    Returns
    -------
    DataFrame
        Columns ``ood_set``, ``sn_layers``, ``normalized_weights``, ``seed``, ``fpr95``, ``auroc``,
        ``aupr`` (percent).
    """
    rows = []
    for depth in sorted(set(depths)):
        for seed in experiment.seeds:
            weights = experiment.config(depth, seed)["normalized_weights"]
            detector = JointEnergy().fit(experiment.id(depth, seed, "val").logits)
            id_scores = detector.score_samples(experiment.id(depth, seed, "test").logits)
            for name in experiment.ood_sets:
                ood_scores = detector.score_samples(experiment.ood(depth, seed, name).logits)
                cell = {"ood_set": name, "sn_layers": depth, "normalized_weights": weights}
                rows.append({**cell, "seed": seed, **ood_metrics(id_scores, ood_scores)})
    return pd.DataFrame(rows).sort_values(["ood_set", "sn_layers", "seed"], ignore_index=True)


def classifier_metrics(experiment: Experiment, sn_layers: int) -> pd.DataFrame:
    """How good the classifier is, and what its shipped threshold really accepts; per seed.

    Returns
    -------
    DataFrame
        Columns ``seed``, ``map`` (mean average precision on val), ``map_interpolated`` (the
        protocol's own: linear interpolation), ``accepted`` (share of the ID test set at or above
        the val threshold), all in percent, and ``classes`` (number with a positive in val).
    """
    rows = []
    for seed in experiment.seeds:
        val = experiment.id(sn_layers, seed, "val")
        if val.labels is None:
            raise SnojoeError("val: expected labelled images")
        tau = experiment.config(sn_layers, seed)["threshold"]["tau"]
        energy = (
            JointEnergy()
            .fit(val.logits)
            .score_samples(experiment.id(sn_layers, seed, "test").logits)
        )
        precision = average_precision(val.labels, val.logits)
        defined = precision == precision
        rows.append(
            {
                "seed": seed,
                "map": 100 * precision[defined].mean(),
                "map_interpolated": 100
                * interpolated_average_precision(val.labels, val.logits)[defined].mean(),
                "classes": int(defined.sum()),
                "accepted": 100 * float((energy >= tau).mean()),
            }
        )
    return pd.DataFrame(rows)
