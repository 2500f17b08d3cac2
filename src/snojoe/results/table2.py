"""Table 2: every score against every OOD set, on the control and on the SN model."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from snojoe.data.prepare import read_classes
from snojoe.data.shards import Shards
from snojoe.detectors import JointEnergy
from snojoe.experiment import Folders
from snojoe.measures.curves import pr_series, roc_series
from snojoe.params import Params
from snojoe.results.distances import distance_ratios, set_distances, spaced_rows
from snojoe.results.grids import Experiment, classifier_metrics, score_grid
from snojoe.results.headline import headline_markdown
from snojoe.results.paper import TABLE_2, paper_set
from snojoe.results.plots import (
    plot_distances,
    plot_histograms,
    plot_pr,
    plot_roc,
    plot_sigmas,
    plot_training,
)
from snojoe.results.tables import (
    compare,
    full_table2_markdown,
    id_test_note,
    paper_rows,
    scores_tree,
    statistics_tree,
    summary_tree,
    table2_markdown,
    tuning_markdown,
)
from snojoe.support.files import write_json, write_text

IMAGES_FOR_DISTANCES = 400


def write_table2(params: Params, folders: Folders) -> None:
    """Write what the `score` stage writes, and print the headline.

    Raises
    ------
    SnojoeError
        If models or outputs are missing or damaged.
    """
    depth = params.sn_layers
    experiment = Experiment(folders.models, folders.outputs, list(params.data.ood), params.seeds)
    experiment.check_models((0, depth))

    grid = score_grid(experiment, depth)
    table2 = grid.metrics()
    bootstraps = grid.bootstrap(paper_rows(depth), params.score.resamples)
    classifier = {
        "control": classifier_metrics(experiment, 0),
        "sn": classifier_metrics(experiment, depth),
    }
    scores = scores_tree(table2, classifier)
    weights = experiment.config(depth, params.seeds[0]).normalized_weights
    write_text(folders.metrics / "table2.csv", table2.round(6).to_csv(index=False))
    write_text(folders.metrics / "table2_full.md", full_table2_markdown(table2))
    write_json(folders.metrics / "scores.json", scores)
    write_json(folders.metrics / "summary.json", summary_tree(scores, depth, weights))

    report = json.loads((folders.prepared / "report.json").read_text(encoding="utf-8"))
    classes = read_classes(folders.prepared)
    known = {name: paper_set(name, report, classes) for name in params.data.ood}
    figures = {name: TABLE_2[paper] for name, paper in known.items() if paper}
    tuning = tuning_by_model(experiment, depth)
    images = grid.images()
    tree = statistics_tree(bootstraps, compare(table2, bootstraps), images, tuning)
    write_json(folders.metrics / "statistics.json", tree)
    text = table2_markdown(table2, bootstraps, images, figures)
    text += f"\n{tuning_markdown(tuning)}{id_test_note(report)}"
    write_text(folders.metrics / "table2.md", text)
    headline = headline_markdown(table2, scores, tree)
    write_text(folders.metrics / "headline.md", headline)

    draw(experiment, depth, folders)
    understand(experiment, depth, folders)
    print(f"\n{headline}")
    for model, frame in classifier.items():
        print(
            f"{model}: mAP {frame['map'].mean():.2f}% over {frame.classes.min()} of "
            f"{len(classes)} classes; the val threshold accepts {frame.accepted.mean():.2f}% "
            f"of the ID test set"
        )
    tables = f"{folders.metrics / 'table2.md'}, {folders.metrics / 'table2_full.md'}"
    print(f"every score: {tables}; drawn: {folders.plots}")


def tuning_by_model(experiment: Experiment, depth: int) -> dict[str, dict[str, Any]]:
    """What tuning chose, by model and seed; a model of which nothing was tuned is left out."""
    tuning = {
        model: {str(seed): experiment.tuning(layers, seed) for seed in experiment.seeds}
        for model, layers in {"control": 0, "sn": depth}.items()
    }
    return {model: by_seed for model, by_seed in tuning.items() if any(by_seed.values())}


def draw(experiment: Experiment, depth: int, folders: Folders) -> None:
    """Histograms, ROC and PR curves and training curves, as pictures and as series for DVC."""
    depths = {"control": 0, "sn": depth}
    first = experiment.seeds[0]
    energy = {
        (model, seed): {
            name: JointEnergy().fit(outputs.logits).score_samples(outputs.logits)
            for name, outputs in [
                ("id", experiment.id(layers, seed, "test")),
                *((s, experiment.ood(layers, seed, s)) for s in experiment.ood_sets),
            ]
        }
        for model, layers in depths.items()
        for seed in experiment.seeds
    }
    plot_histograms(
        folders.plots / "histograms.png",
        {model: energy[model, first]["id"] for model in depths},
        {s: {model: energy[model, first][s] for model in depths} for s in experiment.ood_sets},
        {m: experiment.config(layers, first).threshold.tau for m, layers in depths.items()},
        seed=first,
    )
    roc, pr = (
        pd.concat(
            [
                series(scores["id"], scores[s]).assign(ood_set=s, model=model, seed=seed)
                for (model, seed), scores in energy.items()
                for s in experiment.ood_sets
            ],
            ignore_index=True,
        )
        for series in (roc_series, pr_series)
    )
    plot_roc(folders.plots / "roc.png", roc)
    sizes = {name: len(scores) for name, scores in energy["control", first].items()}
    chance = {s: sizes["id"] / (sizes["id"] + sizes[s]) for s in experiment.ood_sets}
    plot_pr(folders.plots / "pr.png", pr, chance)
    history = experiment.history(depths.values())
    plot_training(folders.plots / "training.png", history)

    # Means over seeds: one line for each model and set, so that two experiments overlay.
    mean_roc = roc.groupby(["ood_set", "model", "fpr"], as_index=False)["tpr"].mean()
    write_text(folders.plots / "roc.csv", mean_roc.round(5).to_csv(index=False))
    mean_pr = pr.groupby(["ood_set", "model", "recall"], as_index=False)["precision"].mean()
    write_text(folders.plots / "pr.csv", mean_pr.round(5).to_csv(index=False))
    history = history.assign(model=["sn" if n else "control" for n in history.sn_layers])
    columns = ["train_loss", "val_loss", "val_map"]
    mean_history = history.groupby(["model", "epoch"], as_index=False)[columns].mean()
    write_text(folders.plots / "training.csv", mean_history.round(5).to_csv(index=False))


def understand(experiment: Experiment, depth: int, folders: Folders) -> None:
    """What SN did to the weights, and whether distances are preserved (eq. 14)."""
    depths = {"control": 0, "sn": depth}
    first = experiment.seeds[0]
    sigmas = experiment.sigmas(depths)
    plot_sigmas(folders.plots / "sigma.png", sigmas[sigmas["seed"] == first])
    ends = sigmas[sigmas["epoch"].isin([0, sigmas["epoch"].max()])]
    keys = ["model", "weight", "layer", "normalized", "epoch"]
    means = ends.groupby(keys, as_index=False, sort=False)[["sigma", "raw_sigma"]].mean()
    write_text(folders.plots / "sigma.csv", means.round(5).to_csv(index=False))

    rows, pixels = {}, {}
    for name in ("id", *experiment.ood_sets):
        shards = Shards(folders.prepared / ("test" if name == "id" else f"ood/{name}"))
        rows[name] = spaced_rows(len(shards), IMAGES_FOR_DISTANCES)
        pixels[name] = shards.pixels(rows[name])
    frames = []
    for model, layers in depths.items():
        for seed in experiment.seeds:
            features = {
                name: (
                    experiment.id(layers, seed, "test")
                    if name == "id"
                    else experiment.ood(layers, seed, name)
                ).features[chosen]
                for name, chosen in rows.items()
            }
            frames.append(set_distances(pixels, features).assign(model=model, seed=seed))
    distances = pd.concat(frames, ignore_index=True)
    plot_distances(folders.plots / "distances.png", distances[distances["seed"] == first])
    write_text(
        folders.metrics / "distances.csv", distance_ratios(distances).round(5).to_csv(index=False)
    )
