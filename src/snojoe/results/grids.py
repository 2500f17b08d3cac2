"""Every score against every OOD set: the grids behind Tables 2 and 3, metrics in percent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from snojoe.detectors import DETECTORS, Detector, JointEnergy, fit_detector
from snojoe.detectors.outputs import ModelOutputs, load_head, load_outputs
from snojoe.measures.metrics import FloatArray, average_precision, interpolated_average_precision
from snojoe.measures.statistics import METRICS, Bootstrap, bootstrap_metrics
from snojoe.model.folder import (
    ModelConfig,
    check_model,
    read_config,
    read_history,
    read_sigmas,
)
from snojoe.support.errors import SnojoeError
from snojoe.support.progress import progress


@dataclass(frozen=True)
class Experiment:
    """Where the models and outputs of an experiment lie.

    Parameters
    ----------
    models : Path
        Holds ``sn<L>/seed<S>/``, the folder of each model.
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

    def id(self, sn_layers: int, seed: int, split: str, score: str | None = None) -> ModelOutputs:
        """Outputs of a split, or what `score` is to read of it."""
        folder = self.outputs / f"sn{sn_layers}" / "id" / f"seed{seed}" / split
        return load_outputs(folder, score)

    def ood(self, sn_layers: int, seed: int, name: str, score: str | None = None) -> ModelOutputs:
        """Outputs of an OOD set, or what `score` is to read of it."""
        folder = self.outputs / f"sn{sn_layers}" / "ood" / f"seed{seed}" / name
        return load_outputs(folder, score)

    def tuning(self, sn_layers: int, seed: int) -> dict[str, Any]:
        """What ``snojoe.inference.tuning.tune`` chose, by score; empty where nothing was tuned."""
        path = self.outputs / f"sn{sn_layers}" / "id" / f"seed{seed}" / "tuning.json"
        return _read_json(path) if path.exists() else {}

    def config(self, sn_layers: int, seed: int) -> ModelConfig:
        """What was stored with the model."""
        return read_config(self.model(sn_layers, seed))

    def check_models(self, depths: Iterable[int]) -> None:
        """Raise a SnojoeError that names the files of models which are not as they were written."""
        for depth in dict.fromkeys(depths):
            for seed in self.seeds:
                check_model(self.model(depth, seed))

    def sigmas(self, depths: Mapping[str, int]) -> pd.DataFrame:
        """Sigma of every weight and epoch, with columns ``model`` and ``seed``."""
        frames = [
            read_sigmas(self.model(depth, seed)).assign(model=model, seed=seed)
            for model, depth in depths.items()
            for seed in self.seeds
        ]
        return pd.concat(frames, ignore_index=True)

    def history(self, depths: Iterable[int]) -> pd.DataFrame:
        """Loss and mAP per epoch, with columns ``sn_layers`` and ``seed``."""
        frames = [
            read_history(self.model(depth, seed)).assign(sn_layers=depth, seed=seed)
            for depth in dict.fromkeys(depths)
            for seed in self.seeds
        ]
        return pd.concat(frames, ignore_index=True)


class ScoreRow(NamedTuple):
    """A row of the full Table 2; `model` is "control" or "sn"."""

    score: str
    model: str
    sn_layers: int


class DepthRow(NamedTuple):
    """A row of Table 3."""

    sn_layers: int
    normalized_weights: int


Row = TypeVar("Row", ScoreRow, DepthRow)
Name = TypeVar("Name", str, int)


@dataclass(frozen=True)
class Grid(Generic[Row]):
    """Scores of every image by row and seed; all metrics and their resampling follow from them.

    Parameters
    ----------
    seeds : sequence of int
    id : dict of row to (seeds, n) array
        Scores of the ID test images.
    ood : dict of OOD set to dict of row to (seeds, m) array
    """

    seeds: Sequence[int]
    id: dict[Row, FloatArray]
    ood: dict[str, dict[Row, FloatArray]]

    def metrics(self) -> pd.DataFrame:
        """The long table, in percent.

        Columns: ``ood_set``, the fields of the rows, ``seed``, ``fpr95``, ``auroc``, ``aupr``.
        """
        return pd.DataFrame(
            {
                "ood_set": ood_set,
                **row._asdict(),
                "seed": seed,
                **{name: 100 * of(*scores) for name, of in METRICS.items()},
            }
            for ood_set, rows in self.ood.items()
            for row in rows
            for seed, *scores in zip(self.seeds, self.id[row], rows[row], strict=True)
        )

    def bootstrap(
        self, rows: Mapping[Name, Row], n_resamples: int
    ) -> dict[str, dict[Name, dict[str, Bootstrap]]]:
        """Paired bootstrap of the given rows: ``[ood_set][name][metric]``, fractions.

        All rows and OOD sets share the resamples of the ID images.
        """
        id_scores = {name: self.id[row] for name, row in rows.items()}
        return {
            ood_set: bootstrap_metrics(
                id_scores,
                {name: scores[row] for name, row in rows.items()},
                n_resamples=n_resamples,
            )
            for ood_set, scores in self.ood.items()
        }

    def images(self) -> dict[str, int]:
        """Number of images of "id" and of each OOD set."""
        sets = {"id": self.id, **self.ood}
        return {name: next(iter(rows.values())).shape[1] for name, rows in sets.items()}


def score_grid(experiment: Experiment, sn_layers: int) -> Grid[ScoreRow]:
    """Every score on the control and on the SN model, as tuned where it was tuned (Table 2)."""
    models = {"control": 0, "sn": sn_layers}
    rows = [ScoreRow(score, m, depth) for score in DETECTORS for m, depth in models.items()]

    def fitted(row: ScoreRow, seed: int) -> Detector:
        train, val = (experiment.id(row.sn_layers, seed, split) for split in ("train", "val"))
        head = load_head(experiment.model(row.sn_layers, seed))
        tuned = experiment.tuning(row.sn_layers, seed).get(row.score, {})
        return fit_detector(row.score, train, val, head, **tuned.get("params", {}))

    return _grid(experiment, rows, fitted)


def depth_grid(experiment: Experiment, depths: Iterable[int]) -> Grid[DepthRow]:
    """JointEnergy for every depth of spectral normalisation (Table 3)."""
    first = experiment.seeds[0]
    rows = [
        DepthRow(depth, experiment.config(depth, first).normalized_weights)
        for depth in sorted(set(depths))
    ]

    def fitted(row: DepthRow, seed: int) -> Detector:
        return JointEnergy().fit(experiment.id(row.sn_layers, seed, "val").logits)

    return _grid(experiment, rows, fitted)


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
        tau = experiment.config(sn_layers, seed).threshold.tau
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


def _grid(
    experiment: Experiment, rows: Sequence[Row], fitted: Callable[[Row, int], Detector]
) -> Grid[Row]:
    def scores(row: Row, seed: int) -> list[FloatArray]:
        detector = fitted(row, seed)
        depth, score = row.sn_layers, detector.name
        sets = [experiment.id(depth, seed, "test", score)]
        sets += [experiment.ood(depth, seed, name, score) for name in experiment.ood_sets]
        return [detector.score_outputs(outputs) for outputs in sets]

    id_scores: dict[Row, FloatArray] = {}
    ood_scores: dict[str, dict[Row, FloatArray]] = {name: {} for name in experiment.ood_sets}
    for row in progress(rows, total=len(rows), desc="scores", unit="score"):
        by_set = zip(*(scores(row, seed) for seed in experiment.seeds), strict=True)
        id_scores[row], *others = (np.stack(seeds) for seeds in by_set)
        for name, array in zip(experiment.ood_sets, others, strict=True):
            ood_scores[name][row] = array
    return Grid(experiment.seeds, id_scores, ood_scores)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None
    return content
