"""``metrics/summary.json``: at most a dozen numbers for ``dvc metrics diff``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snojoe.measures.ood_metrics import FPR95, OOD_METRICS
from snojoe.results.scores_json import Means, Scores
from snojoe.support.files import write_json


def summary_of(scores: Scores, sn_layers: int, normalized_weights: int) -> dict[str, Any]:
    """Of each OOD set the three metrics of joint energy, and the classifier's mAP.

    They are of the model that detects. Where it has SN, JointEnergy's FPR95 stands beside. With
    more than two sets, the means over them.
    """
    sets = scores.ood if len(scores.ood) <= 2 else _mean_over_sets(scores.ood)
    return {
        "sn_layers": sn_layers,
        "normalized_weights": normalized_weights,
        "map": scores.id.map,
        "accepted": scores.id.accepted,
        **{name: _summary(of) for name, of in sets.items()},
    }


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    write_json(path, summary)


def _summary(of_set: Mapping[str, Means]) -> Means:
    control = of_set["joint_energy"]
    if "snojoe" not in of_set:
        return control
    return {**of_set["snojoe"], "fpr95_control": control[FPR95.name]}


def _mean_over_sets(sets: dict[str, dict[str, Means]]) -> dict[str, dict[str, Means]]:
    means = {
        score: {
            metric.name: round(sum(of[score][metric.name] for of in sets.values()) / len(sets), 2)
            for metric in OOD_METRICS
        }
        for score in ("snojoe", "joint_energy")
        if all(score in of for of in sets.values())
    }
    return {f"mean of {len(sets)} sets": means}
