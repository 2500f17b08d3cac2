"""``metrics/auto.md``: what choosing the score by pseudo-OOD images costs on real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from snojoe.data.pseudo_ood import PSEUDO_OOD
from snojoe.detectors import DETECTORS, Detector, JointEnergy, ModelOutputs
from snojoe.detectors.store import ID
from snojoe.measures.metrics import fpr_at_tpr
from snojoe.results.formatting import markdown_table
from snojoe.results.markdown import seen_note
from snojoe.results.stored import Experiment

Choices = Mapping[str, Iterable[Mapping[str, float]]]
"""Model, "control" or "sn" -> for each seed, score -> mean FPR95 on the pseudo-OOD sets."""


def pseudo_fpr95(
    experiment: Experiment, sn_layers: int, seed: int, detector: Detector
) -> float | None:
    """The mean FPR95, a fraction, over the five sets made of val images that are there to choose.

    None where these are not stored, or where the detector has learnt from the same images, which
    are then no new ones to it.
    """
    folder = experiment.folders.pseudo_outputs(sn_layers, seed)
    if detector.learns_from_val or not folder.is_dir():
        return None
    of_id, *others = (
        experiment.pseudo_outputs(sn_layers, seed, name) for name in (ID, *PSEUDO_OOD)
    )
    (fpr95,) = mean_fpr95s([detector], of_id, others)
    return fpr95


def mean_fpr95s(
    variants: Sequence[Detector], of_id: ModelOutputs, sets: Iterable[ModelOutputs]
) -> list[float]:
    """The mean FPR95 of each variant over the sets, a fraction: what is chosen by."""
    score = variants[0].score_variants
    id_scores = score(variants, of_id)
    by_set = [
        [fpr_at_tpr(*both) for both in zip(id_scores, score(variants, each), strict=True)]
        for each in sets
    ]
    return [float(np.mean(of_one)) for of_one in zip(*by_set, strict=True)]


def auto_markdown(table2: pd.DataFrame, choices: Choices, seen: bool = False) -> str:
    """For each model and OOD set the chosen score beside the best one there.

    Parameters
    ----------
    table2 : DataFrame
        ``score_grid(...).metrics()``.
    choices : mapping
        A model without any is left out.
    seen : bool
        Whether the models were trained with pseudo-OOD images.
    """
    rows = []
    for model, by_seed in choices.items():
        pseudo = pd.DataFrame(list(by_seed)).mean()
        if pseudo.empty:
            continue
        chosen = pseudo.idxmin()
        of_model = table2[table2.model == model]
        means = of_model.groupby(["ood_set", "score"], sort=False).fpr95.mean()
        for ood_set in of_model.ood_set.unique():
            fpr95 = means[ood_set]
            best = fpr95.idxmin()
            rows.append(
                [
                    f"{ood_set}, {'with SN' if model == 'sn' else 'control'}",
                    f"{DETECTORS[str(chosen)].title} {fpr95[chosen]:.2f}",
                    f"{DETECTORS[best].title} {fpr95[best]:.2f}",
                    f"{fpr95[chosen] - fpr95[best]:.2f}",
                    f"{fpr95[JointEnergy.name]:.2f}",
                ]
            )
    if not rows:
        return "There are no pseudo-OOD images to choose a score by.\n"
    header = ["OOD set", "`--score auto`", "best there", "cost", "JointEnergy"]
    return (
        f"{markdown_table(header, rows)}\n\n"
        "FPR95 in percent, means over seeds. `auto` is the score with the lowest mean FPR95 on "
        "five pseudo-OOD sets made of val images; the best is chosen by the OOD set itself, which "
        f"a user does not have.{seen_note(seen)}\n"
    )
