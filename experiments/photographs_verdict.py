"""What the trainings of experiments/photographs.py say, by docs/findings/photographs-plan.md.

    python experiments/photographs_verdict.py docs/findings --results RESULTS

copies there the trainings (``photographs.csv``), their joint energies (``photographs.npz``) and the
metrics of every score (``photographs-scores.csv``), of which it makes ``photographs.md``; without
--results it reads the copies.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from photographs import GRID_SEED, MAIN, OOD, OTHERS, SEEDS

from snojoe.detectors import DETECTORS
from snojoe.measures.comparisons import holm
from snojoe.measures.estimates import Estimate, estimates
from snojoe.measures.ood_metrics import AUROC, FPR95, OOD_METRICS, Metric
from snojoe.results.formatting import interval, markdown_table, mean_and_std, p_value
from snojoe.results.paper import EFFECTS
from snojoe.support.files import atomic_file, write_text

NAME = "photographs"
PROBE = 51.8  # val mAP of a linear probe, by the plan
MARGINS = {AUROC.name: 2.0, FPR95.name: 3.5}
BOUNDS = {"none": "none", "hard": "hard", "soft3": "soft 3"}
BATCH_NORMS = {"frozen1": "frozen after 1", "train": "train mode"}
Energies = Mapping[tuple[str, str, int, str], NDArray[np.float64]]
"""Bound, BatchNorm, seed and set -> (n,) joint energies."""


class Comparison(NamedTuple):
    """An arm and its control on one OOD set."""

    ood_set: str
    bound: str
    batch_norm: str
    seeds: Sequence[int]
    arm: Mapping[str, Estimate]
    control: Mapping[str, Estimate]


def compare(energies: Energies, arms: Sequence[tuple[str, str]]) -> list[Comparison]:
    """All of one family, on the seeds that both have."""
    found = []
    for ood_set in OOD:
        for bound, batch_norm in arms:
            if bound == "none":
                continue
            keys = {"arm": (bound, batch_norm), "control": ("none", batch_norm)}
            seeds = [
                s for s in SEEDS if all((*key, s, "test") in energies for key in keys.values())
            ]
            id_scores, ood_scores = (
                {
                    row: np.stack([energies[(*key, seed, name)] for seed in seeds])
                    for row, key in keys.items()
                }
                for name in ("test", ood_set)
            )
            both = estimates(id_scores, ood_scores)
            found.append(
                Comparison(ood_set, bound, batch_norm, seeds, both["arm"], both["control"])
            )
    return found


def family_markdown(found: Sequence[Comparison], metric: Metric) -> str:
    """A row for each comparison, in percent."""
    differences = [each.arm[metric.name] - each.control[metric.name] for each in found]
    corrected = holm([difference.p_value() for difference in differences])
    header = ["OOD set", "SN", "BatchNorm", "seeds", "control", "with it", "difference"]
    header += ["p (Holm)", "equal within", ""]
    rows = []
    for each, difference, p in zip(found, differences, corrected, strict=True):
        low, high = difference.interval()
        rows.append(
            [
                each.ood_set,
                BOUNDS[each.bound],
                BATCH_NORMS[each.batch_norm],
                str(len(each.seeds)),
                _over_seeds(each.control[metric.name]),
                _over_seeds(each.arm[metric.name]),
                f"{100 * difference.value:+.2f} {interval((100 * low, 100 * high))}",
                f"{p_value(difference.p_value()).removeprefix('p = ')} ({p:.2f})",
                f"{100 * difference.margin():.2f}",
                conclusion(difference, metric, p),
            ]
        )
    return markdown_table(header, rows)


def conclusion(difference: Estimate, metric: Metric, corrected: float) -> str:
    """The first plan's sentence."""
    if corrected < 0.05:
        return "SN helps" if (difference.value > 0) == (metric.better == "higher") else "SN harms"
    margin = MARGINS[metric.name]
    return (
        f"no effect of {margin:g} points" if 100 * difference.margin() < margin else "not settled"
    )


def paper_markdown(found: Sequence[Comparison]) -> str:
    """Which of the paper's effects on FPR95 the intervals exclude."""
    header = ["OOD set", "SN", "BatchNorm", "points", "relative cut (%)"]
    header += [f"{effect.points:.2f}" for effect in EFFECTS]
    header += [f"cut by {effect.cut:.0f}%" for effect in EFFECTS]
    rows = []
    for each in found:
        arm, control = each.arm[FPR95.name], each.control[FPR95.name]
        points = [100 * end for end in (arm - control).interval()]
        cut = [100 * end for end in arm.relative_reduction(control).interval()]
        names = [each.ood_set, BOUNDS[each.bound], BATCH_NORMS[each.batch_norm]]
        intervals = [interval((points[0], points[1])), interval((cut[0], cut[1]))]
        said = [_said(effect.points, points) for effect in EFFECTS]
        said += [_said(effect.cut, cut) for effect in EFFECTS]
        rows.append([*names, *intervals, *said])
    return markdown_table(header, rows)


def _said(effect: float, ends: Sequence[float]) -> str:
    return "possible" if ends[0] <= effect <= ends[1] else "excluded"


def _over_seeds(estimate: Estimate) -> str:
    values = 100 * estimate.per_seed
    return mean_and_std(values.mean(), values.std(ddof=1))


def classifiers_markdown(trainings: pd.DataFrame) -> str:
    """Val mAP of each arm."""
    rows = []
    for bound, batch_norm in (*MAIN, *OTHERS):
        arm = (trainings.bound == bound) & (trainings.batch_norm == batch_norm)
        values = trainings[arm & (trainings.seed != GRID_SEED)].val_map
        spread = mean_and_std(values.mean(), values.std(ddof=1))
        names = [BOUNDS[bound], BATCH_NORMS[batch_norm]]
        rows.append([*names, str(len(values)), spread, f"{values.min():.2f}"])
    return markdown_table(["SN", "BatchNorm", "trainings", "val mAP", "least"], rows)


def grid_markdown(trainings: pd.DataFrame) -> str:
    """The choice of the settings."""
    grid = trainings[trainings.seed == GRID_SEED].sort_values(["epochs", "lr_factor"])
    cells = zip(grid.lr_factor, grid.epochs, grid.val_map, strict=True)
    rows = [[f"{factor:g}", str(epochs), f"{val_map:.2f}"] for factor, epochs, val_map in cells]
    return markdown_table(["trunk's share of the rate", "epochs", "val mAP"], rows)


def scores_markdown(scores: pd.DataFrame, batch_norm: str) -> str:
    """Every score, on the control and with hard SN: means over the seeds."""
    columns = [
        (ood_set, metric, bound)
        for ood_set in OOD
        for metric in (FPR95, AUROC)
        for bound in ("none", "hard")
    ]
    of = scores[scores.batch_norm == batch_norm].groupby(["score", "ood_set", "bound"])
    means = of[[FPR95.name, AUROC.name]].mean().to_dict("index")
    header = ["score", *(f"{o}, {m.heading}, {BOUNDS[b]}" for o, m, b in columns)]
    rows = [
        [DETECTORS[name].title, *(f"{means[name, o, b][m.name]:.2f}" for o, m, b in columns)]
        for name in scores.score.unique()
    ]
    return markdown_table(header, rows)


def collect(results: Path, target: Path) -> None:
    """Copy the trainings; joint energies as one file, metrics of every score as another."""
    shutil.copyfile(results / "trainings.csv", target / f"{NAME}.csv")
    arrays: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for path in sorted(results.glob("*.npz")):
        *_, seed, bound, batch_norm = path.stem.split("-")
        with np.load(path) as found:
            for name in ("test", *OOD):
                arrays[f"{bound}/{batch_norm}/{seed}/{name}"] = found[f"joint_energy/{name}"]
            for score in (key.removesuffix("/test") for key in found if key.endswith("/test")):
                inside = found[f"{score}/test"]
                for ood_set in OOD:
                    outside = found[f"{score}/{ood_set}"]
                    metrics = {m.name: 100 * m.of(inside, outside) for m in OOD_METRICS}
                    known = {"bound": bound, "batch_norm": batch_norm, "seed": seed}
                    rows.append({**known, "score": score, "ood_set": ood_set, **metrics})
    with atomic_file(target / f"{NAME}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    pd.DataFrame(rows).to_csv(target / f"{NAME}-scores.csv", index=False, float_format="%.4f")


def load_energies(path: Path) -> Energies:
    energies = {}
    with np.load(path) as found:
        for key, array in found.items():
            bound, batch_norm, seed, name = key.split("/")
            energies[bound, batch_norm, int(seed), name] = array.astype(np.float64)
    return energies


def page(trainings: pd.DataFrame, energies: Energies, scores: pd.DataFrame) -> str:
    """The page as Markdown."""
    parts = [
        "# What the trainings on photographs say",
        "Made by `experiments/photographs_verdict.py` after [the plan](photographs-plan.md).\n"
        "Percent; mean ± standard deviation over seeds; [95% interval] and p for new trainings\n"
        "and new images.",
        "## The choice of the settings, on the control alone",
        grid_markdown(trainings),
        "## Classifiers",
        f"A linear probe on the network's frozen features has a val mAP of {PROBE}.",
        classifiers_markdown(trainings),
    ]
    for title, arms in (("The main question", MAIN), ("Others, exploratory", OTHERS)):
        found = compare(energies, arms)
        parts.append(f"## {title}")
        for metric in (AUROC, FPR95):
            parts += [f"**{metric.heading}**", family_markdown(found, metric)]
        parts += ["**The paper's effects on FPR95**", paper_markdown(found)]
    parts.append(
        "## Every score, without SN and with hard SN\n\nMeans over the seeds. Scores are what they "
        "were then: KNN (k = 50), Mahalanobis++, NNGuide (neighbours by cosine alone) and Relative "
        "Mahalanobis read the pooled features, GradNorm's loss was against 1/2, SHE took the "
        "largest product, ViM's alpha was from train."
    )
    for batch_norm, title in BATCH_NORMS.items():
        parts += [f"**BatchNorm: {title}**", scores_markdown(scores, batch_norm)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    target = options.target
    if options.results:
        collect(options.results, target)
    tables = (pd.read_csv(target / f"{NAME}{part}.csv") for part in ("", "-scores"))
    trainings, scores = tables
    text = page(trainings, load_energies(target / f"{NAME}.npz"), scores)
    write_text(target / f"{NAME}.md", text)


if __name__ == "__main__":
    main()
