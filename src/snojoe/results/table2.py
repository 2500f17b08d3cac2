"""Table 2: every score against every OOD set, on the control and on the SN model, if any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from snojoe.data.overlap import read_known
from snojoe.data.prepared import read_classes, read_prepared_sets
from snojoe.detectors import JointEnergy
from snojoe.detectors.store import ID
from snojoe.experiment import Folders
from snojoe.inference.tuned import Tuning
from snojoe.measures.curves import pr_series, roc_series
from snojoe.measures.metrics import FloatArray
from snojoe.params import Params
from snojoe.results.at_work import at_work
from snojoe.results.auto import auto_markdown
from snojoe.results.classifier import classifier_metrics
from snojoe.results.detector_store import score_and_keep
from snojoe.results.distances import distance_ratios, measured_distances
from snojoe.results.grids import Grid, ScoreRow, compared_models, paper_rows
from snojoe.results.headline import headline_markdown, verdicts
from snojoe.results.leaderboard import leaderboard, leaderboard_markdown
from snojoe.results.markdown import (
    full_table2_markdown,
    id_test_note,
    known_note,
    left_out_note,
    table2_markdown,
    tuning_markdown,
)
from snojoe.results.ood_classes import ood_classes
from snojoe.results.paper import PAPERS, beside_table2, paper_cut
from snojoe.results.plots import (
    plot_distances,
    plot_histograms,
    plot_leaderboard,
    plot_pr,
    plot_roc,
    plot_sigmas,
    plot_training,
)
from snojoe.results.scores_json import Scores, scores_of, write_scores
from snojoe.results.statistics_json import Statistics, statistics_of, write_statistics
from snojoe.results.stored import Experiment
from snojoe.results.summary_json import summary_of, write_summary
from snojoe.results.tables import full_table2_sets, table2_sets
from snojoe.results.tuned_scores import TunedScores, tuned_markdown, tuned_places
from snojoe.support.files import write_text

Models = Mapping[str, int]
"""``control`` and, where there is one, ``sn`` -> their depth of spectral normalisation."""

Energies = Mapping[str, Mapping[str, FloatArray]]
"""Model -> "id" and each OOD set -> joint energies, (seeds, images) float64."""


def write_table2(params: Params, folders: Folders) -> None:
    """Write what the `score` stage writes, and print the headline.

    Raises
    ------
    SnojoeError
        If models, outputs or the prepared sets are missing or damaged.
    """
    experiment = Experiment.of(params, folders)
    models = compared_models(params.sn_layers)
    experiment.check_models(models.values())

    grid, tuned, choices = score_and_keep(experiment, params.sn_layers)
    seen = experiment.saw_pseudo_ood(params.sn_layers)
    write_text(folders.metrics / "auto.md", auto_markdown(grid.metrics(), choices, seen))
    write_text(folders.metrics / "tuned.md", tuned_markdown(grid, tuned, seen))
    write_leaderboard(params, experiment, grid, tuned)
    write_classes(experiment, grid)
    energies = {
        model: grid.scores(ScoreRow(JointEnergy.name, model, depth))
        for model, depth in models.items()
    }
    classifiers = {
        model: classifier_metrics(experiment, depth, energies[model]["id"])
        for model, depth in models.items()
    }
    headline = write_metrics(params, experiment, grid, classifiers)

    draw_histograms(experiment, models, energies)
    draw_curves(experiment, energies)
    draw_training(experiment, models)
    draw_sigmas(experiment, models)
    write_distances(experiment, models)

    print(f"\n{headline}")
    print_classifiers(classifiers, len(read_classes(folders.prepared)))
    tables = f"{folders.metrics / 'table2.md'}, {folders.metrics / 'table2_full.md'}"
    print(f"every score: {tables}; drawn: {folders.plots}; detectors: {folders.detectors}")


def write_leaderboard(
    params: Params, experiment: Experiment, grid: Grid[ScoreRow], tuned: TunedScores
) -> None:
    """Write every score's place, as a table and as a picture."""
    places = leaderboard(grid, experiment.clusters(), tuned_places(tuned))
    distances = {name: source.distance for name, source in params.data.ood.items()}
    text = leaderboard_markdown(places, distances, len(experiment.seeds))
    write_text(experiment.folders.metrics / "leaderboard.md", text)
    plot_leaderboard(experiment.folders.plots / "leaderboard.png", places)


def write_classes(experiment: Experiment, grid: Grid[ScoreRow]) -> None:
    """Write which classes of the OOD sets pass."""
    ids = {
        name: experiment.shards(folder).table(["id"])["id"].to_pylist()
        for name, folder in experiment.test_sets.items()
        if name != ID
    }
    classes = ood_classes(grid, ids)
    text = classes.round(4).to_csv(index=False)
    write_text(experiment.folders.metrics / "ood_classes.csv", text)


def write_metrics(
    params: Params,
    experiment: Experiment,
    grid: Grid[ScoreRow],
    classifiers: Mapping[str, pd.DataFrame],
) -> str:
    """Write all of ``metrics`` but the distances, for programs and for people; the headline."""
    metrics, depth = experiment.folders.metrics, params.sn_layers
    table2 = grid.metrics()
    scores = scores_of(table2, classifiers)
    summary = summary_of(scores, depth, experiment.normalized_weights(depth))
    estimates = grid.estimates(paper_rows(depth), experiment.clusters())
    tuning = tuning_by_model(experiment, depth)
    statistics = statistics_of(estimates, grid.images(), tuning)
    write_text(metrics / "table2.csv", table2.round(6).to_csv(index=False))
    write_scores(metrics / "scores.json", scores)
    write_summary(metrics / "summary.json", summary)
    write_statistics(metrics / "statistics.json", statistics)
    return write_markdown(experiment, table2, scores, statistics, depth)


def write_markdown(
    experiment: Experiment,
    table2: pd.DataFrame,
    scores: Scores,
    statistics: Statistics,
    sn_layers: int,
) -> str:
    """Write both forms of Table 2 and the headline, which is returned."""
    folders, seeds = experiment.folders, len(experiment.seeds)
    sets = read_prepared_sets(folders.prepared)
    beside = beside_table2(sets, read_classes(folders.prepared))
    cuts = {ood_set: paper_cut(figures) for ood_set, figures in beside[PAPERS].items()}
    tables = table2_sets(table2, statistics, beside)
    text = table2_markdown(tables, statistics, cuts)
    seen = experiment.saw_pseudo_ood(sn_layers)
    text += f"\n{tuning_markdown(statistics.tuning, seen)}{id_test_note(sets)}"
    text += known_note(read_known(folders.prepared))
    full = full_table2_markdown(full_table2_sets(table2), seeds)
    full += left_out_note(set(table2.score))
    work = at_work(experiment, sn_layers)
    headline = headline_markdown(verdicts(scores, statistics), tables, statistics, work)
    write_text(folders.metrics / "table2.md", text)
    write_text(folders.metrics / "table2_full.md", full)
    write_text(folders.metrics / "headline.md", headline)
    return headline


def tuning_by_model(experiment: Experiment, sn_layers: int) -> dict[str, dict[str, Tuning]]:
    """What tuning chose, by model and seed; a model of which nothing was tuned is left out."""
    tuning = {
        model: {str(seed): experiment.tuning(depth, seed) for seed in experiment.seeds}
        for model, depth in compared_models(sn_layers).items()
    }
    return {model: by_seed for model, by_seed in tuning.items() if any(by_seed.values())}


def print_classifiers(classifiers: Mapping[str, pd.DataFrame], classes: int) -> None:
    """How good each model is, of so many classes, and what its threshold accepts."""
    for model, frame in classifiers.items():
        whose = f"{model}: " if len(classifiers) > 1 else ""
        print(
            f"{whose}mAP {frame['map'].mean():.2f}% over {frame.classes.min()} of {classes} "
            f"classes; the val threshold accepts {frame.accepted.mean():.2f}% of the ID test set"
        )


def draw_histograms(experiment: Experiment, models: Models, energies: Energies) -> None:
    """Joint energies of the first seed."""
    seed = experiment.seeds[0]
    plot_histograms(
        experiment.folders.plots / "histograms.png",
        {model: energies[model]["id"][0] for model in models},
        {s: {model: energies[model][s][0] for model in models} for s in experiment.ood_sets},
        {model: experiment.threshold(depth, seed) for model, depth in models.items()},
        seed=seed,
    )


def draw_curves(experiment: Experiment, energies: Energies) -> None:
    """ROC and precision-recall curves of joint energy, as pictures and as series for DVC."""
    plots, seeds = experiment.folders.plots, experiment.seeds
    roc, pr = (_curves(series, energies, seeds) for series in (roc_series, pr_series))
    plot_roc(plots / "roc.png", roc)
    sizes = {name: scores.shape[1] for name, scores in energies["control"].items()}
    chance = {s: sizes["id"] / (sizes["id"] + sizes[s]) for s in experiment.ood_sets}
    plot_pr(plots / "pr.png", pr, chance)
    _write_means(plots / "roc.csv", roc, ["ood_set", "model", "fpr"], ["tpr"])
    _write_means(plots / "pr.csv", pr, ["ood_set", "model", "recall"], ["precision"])


def draw_training(experiment: Experiment, models: Models) -> None:
    """Loss and val mAP by epoch, as a picture and as a series for DVC."""
    plots = experiment.folders.plots
    history = experiment.history(models.values())
    plot_training(plots / "training.png", history)
    history = history.assign(model=["sn" if depth else "control" for depth in history.sn_layers])
    columns = ["train_loss", "val_loss", "val_map"]
    _write_means(plots / "training.csv", history, ["model", "epoch"], columns)


def draw_sigmas(experiment: Experiment, models: Models) -> None:
    """What SN did to the weights: a picture of the first seed, and means over the seeds."""
    plots = experiment.folders.plots
    sigmas = experiment.sigmas(models)
    plot_sigmas(plots / "sigma.png", sigmas[sigmas["seed"] == experiment.seeds[0]])
    ends = sigmas[sigmas["epoch"].isin([0, sigmas["epoch"].max()])]
    keys = ["model", "weight", "layer", "normalized", "epoch"]
    _write_means(plots / "sigma.csv", ends, keys, ["sigma", "raw_sigma"], sort=False)


def write_distances(experiment: Experiment, models: Models) -> None:
    """Whether distances are preserved (eq. 14): a picture of the first seed, ratios of each."""
    folders = experiment.folders
    distances = measured_distances(experiment, models)
    first = distances[distances["seed"] == experiment.seeds[0]]
    plot_distances(folders.plots / "distances.png", first)
    ratios = distance_ratios(distances).round(5).to_csv(index=False)
    write_text(folders.metrics / "distances.csv", ratios)


def _curves(
    series: Callable[[FloatArray, FloatArray], pd.DataFrame],
    energies: Energies,
    seeds: Sequence[int],
) -> pd.DataFrame:
    """`series` of every model, seed and OOD set, which further columns name."""
    frames = [
        series(sets["id"][i], sets[name][i]).assign(ood_set=name, model=model, seed=seed)
        for model, sets in energies.items()
        for i, seed in enumerate(seeds)
        for name in sets
        if name != "id"
    ]
    return pd.concat(frames, ignore_index=True)


def _write_means(
    path: Path, frame: pd.DataFrame, keys: list[str], values: list[str], *, sort: bool = True
) -> None:
    """Means over seeds: one line for each model (and set), so that two experiments overlay."""
    means = frame.groupby(keys, as_index=False, sort=sort)[values].mean()
    write_text(path, means.round(5).to_csv(index=False))
