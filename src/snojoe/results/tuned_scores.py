"""``metrics/tuned.md``: hyperparameters that pseudo-OOD images chose, and what came of it.

Chosen for each training by what chooses `auto`'s score: the lowest mean FPR95 over the pseudo-OOD
sets. No OOD set takes part, and the default stays where no value is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from snojoe.data.pseudo_ood import PSEUDO_OOD
from snojoe.detectors import DETECTORS, Detector, LinearHead, ModelOutputs
from snojoe.detectors.store import ID
from snojoe.measures.ood_metrics import AUROC, FPR95
from snojoe.results.auto import mean_fpr95s
from snojoe.results.formatting import markdown_table
from snojoe.results.grids import Grid, ScoreRow, score_grids
from snojoe.results.leaderboard import MODELS, TunedPlace
from snojoe.results.markdown import seen_note
from snojoe.results.stored import Experiment

FEWEST = 4
"""Of fewer images there are no halves to fit on and to measure by."""


class Choice(NamedTuple):
    """What was chosen for one training.

    Attributes
    ----------
    params, default : dict of str to object
        The values of the grid's parameters.
    fpr95, default_fpr95 : float
        Means over the pseudo-OOD sets, fractions.
    """

    params: dict[str, Any]
    default: dict[str, Any]
    fpr95: float
    default_fpr95: float

    @property
    def changed(self) -> bool:
        """Whether it is another than the default."""
        return self.params != self.default


@dataclass(frozen=True)
class TunedScores:
    """The scores that have a grid, with the chosen values.

    Parameters
    ----------
    grid : Grid of ScoreRow
    choices : mapping of ScoreRow to sequence of Choice
        In the order of the seeds.
    """

    grid: Grid[ScoreRow]
    choices: Mapping[ScoreRow, Sequence[Choice]]


def tuned_score_grid(
    experiment: Experiment,
    sn_layers: int,
    keep: Callable[[ScoreRow, int, Detector, Choice | None], None] | None = None,
) -> tuple[Grid[ScoreRow], TunedScores]:
    """`score_grid`, and the same scores tuned on pseudo-OOD images, where these are stored.

    `keep` is handed what was chosen as well, or None where nothing was.
    """
    choices: dict[ScoreRow, dict[int, Choice]] = {}

    def choose(row: ScoreRow, seed: int, variants: Sequence[Detector]) -> Detector | None:
        if not experiment.folders.pseudo_outputs(row.sn_layers, seed).is_dir():
            return None
        of_id, *sets = (
            experiment.pseudo_outputs(row.sn_layers, seed, name) for name in (ID, *PSEUDO_OOD)
        )
        head = experiment.head(row.sn_layers, seed)
        fpr95s = pseudo_fpr95s(variants, of_id, sets, head)
        if fpr95s is None:
            return None
        best = int(np.argmin(fpr95s))  # the default is the first, and among equals the first wins
        default, chosen = (
            {name: variant.get_params()[name] for name in variant.grid}
            for variant in (variants[0], variants[best])
        )
        choice = Choice(chosen, default, fpr95s[best], fpr95s[0])
        choices.setdefault(row, {})[seed] = choice
        return variants[best]

    def keep_chosen(row: ScoreRow, seed: int, detector: Detector) -> None:
        if keep:
            keep(row, seed, detector, choices.get(row, {}).get(seed))

    grid, tuned = score_grids(experiment, sn_layers, choose, keep_chosen)
    return grid, TunedScores(tuned, {row: list(choices[row].values()) for row in tuned.id})


def pseudo_fpr95s(
    variants: Sequence[Detector],
    of_id: ModelOutputs,
    sets: Sequence[ModelOutputs],
    head: LinearHead,
) -> list[float] | None:
    """The mean FPR95 of each variant over pseudo-OOD sets, a fraction.

    To what has learnt from val, the val images that these are made of are no new ones. It is fitted
    anew on each half of them and measured on the other; None where they are too few for that.

    Parameters
    ----------
    variants : sequence of Detector
        Fitted together.
    of_id : ModelOutputs
        Of the val images that the pseudo-OOD sets are made of.
    sets : sequence of ModelOutputs
    head : LinearHead
    """
    if not variants[0].learns_from_val:
        return mean_fpr95s(variants, of_id, sets)
    n = len(of_id.logits)
    if n < FEWEST:
        return None
    of_halves = []
    for half in (0, 1):
        fitted_on = np.arange(n) % 2 == half
        anew = [clone(variant) for variant in variants]
        anew[0].fit_variants(anew, of_id.rows(fitted_on), head)
        of_halves.append(mean_fpr95s(anew, of_id.rows(~fitted_on), sets))
    return np.mean(of_halves, axis=0).tolist()


def tuned_places(tuned: TunedScores) -> dict[ScoreRow, TunedPlace]:
    """The second column of the leaderboard, of the rows that have one."""
    if not tuned.choices:
        return {}
    names = [AUROC.name, FPR95.name]
    means = tuned.grid.metrics((AUROC, FPR95)).groupby(["score", "model"])[names].mean()
    places = {}
    for row, choices in tuned.choices.items():
        auroc, fpr95 = map(float, means.loc[[(row.score, row.model)]].to_numpy()[0])
        changed = sum(choice.changed for choice in choices)
        places[row] = TunedPlace(auroc, fpr95, changed)
    return places


def tuned_markdown(grid: Grid[ScoreRow], tuned: TunedScores, seen: bool = False) -> str:
    """What was chosen, score by score, and what came of it on the OOD sets.

    Parameters
    ----------
    grid, tuned : Grid of ScoreRow, TunedScores
    seen : bool
        Whether a training saw pseudo-OOD images.
    """
    if not tuned.choices:
        return "There are no pseudo-OOD images to choose values by.\n"
    models = list(dict.fromkeys(row.model for row in tuned.choices))
    several = len(models) > 1
    header = ["", "offered, default first", "pseudo-OOD FPR95 ↓: default, chosen"]
    header += [f"chosen{f' {MODELS[model]}' if several else ''}" for model in models]
    rows = []
    for score in dict.fromkeys(row.score for row in tuned.choices):
        of_score = {row.model: found for row, found in tuned.choices.items() if row.score == score}
        every = [choice for found in of_score.values() for choice in found]
        before, after = (
            100 * np.mean([getattr(choice, name) for choice in every])
            for name in ("default_fpr95", "fpr95")
        )
        offered = _offered(DETECTORS[score], every[0].default)
        chosen = [_counted(of_score.get(model, ())) for model in models]
        rows.append([DETECTORS[score].title, offered, f"{before:.2f}, {after:.2f}", *chosen])
    return (
        f"{markdown_table(header, rows)}\n\n"
        "The value with the lowest mean FPR95 on five pseudo-OOD sets made of val images, for each "
        "training; how many chose it. A rule is that of the default in `docs/scores.md`."
        f"{seen_note(seen)}\n\n"
        f"{_what_came_of_it(grid, tuned, models)}\n"
    )


def _what_came_of_it(grid: Grid[ScoreRow], tuned: TunedScores, models: Sequence[str]) -> str:
    """For each model and OOD set how much the scores gained by other values."""
    metrics = (AUROC, FPR95)
    keys = ["ood_set", "model", "score"]
    names = [metric.name for metric in metrics]
    default, chosen = (
        each.metrics(metrics).groupby(keys, sort=False)[names].mean() for each in (grid, tuned.grid)
    )
    changes = (chosen - default.loc[chosen.index]).reset_index()
    changed = {
        (r.model, r.score) for r, found in tuned.choices.items() if any(c.changed for c in found)
    }
    rows = []
    for (ood_set, model), of_set in changes.groupby(["ood_set", "model"], sort=False):
        other = [(model, score) in changed for score in of_set.score]
        of_changed = of_set[other]
        title = f"{ood_set}, {MODELS[str(model)]}" if len(models) > 1 else str(ood_set)
        row = [title, f"{len(of_changed)} of {len(of_set)}"]
        for name, sign in ((AUROC.name, 1), (FPR95.name, -1)):
            gains = sign * of_changed[name]
            row.append(f"{(gains > 0).sum()} better, {(gains < 0).sum()} worse")
            row.append(f"{of_changed[name].mean():+.2f}" if len(of_changed) else "–")
        rows.append(row)
    header = ["OOD set", "scores with another value", "by AUROC", "mean change"]
    header += ["by FPR95", "mean change"]
    return (
        f"{markdown_table(header, rows)}\n\nPercentage points, of means over seeds; nothing was "
        "chosen by these sets."
    )


def _offered(detector: type[Detector], default: Mapping[str, Any]) -> str:
    """``k: 3, 1, 2``, for each parameter."""
    return "; ".join(
        f"{name}: {', '.join(_text(v) for v in [default[name], *_others(values, default[name])])}"
        for name, values in detector.grid.items()
    )


def _others(values: Sequence[Any], default: Any) -> list[Any]:
    return [value for value in values if value != default]


def _counted(choices: Sequence[Choice]) -> str:
    """``3 (2), 5``: each chosen point of the grid, and how often where that is not once."""
    points = Counter(
        "/".join(_text(value) for value in choice.params.values()) for choice in choices
    )
    return ", ".join(
        point + (f" ({count})" if count > 1 else "") for point, count in points.most_common()
    )


def _text(value: Any) -> str:
    return "rule" if value is None else f"{value:g}"
