"""Table 2: every score against every OOD set, on the control and on the SN model."""

import json

import pandas as pd
from _run import METRICS, MODELS, OUTPUTS, PLOTS, PREPARED, run

from snojoe.data.prepare import read_classes
from snojoe.detectors import JointEnergy
from snojoe.evaluation import Experiment, classifier_metrics, score_grid
from snojoe.files import write_json
from snojoe.paper import TABLE_2, paper_set
from snojoe.params import Params
from snojoe.plots import plot_histograms, plot_pr, plot_roc, plot_training
from snojoe.series import pr_series, roc_series
from snojoe.tables import scores_tree, summary_tree, table2_markdown


def score(params: Params) -> None:
    depth = params.sn_layers
    experiment = Experiment(MODELS, OUTPUTS, list(params.data.ood), params.seeds)

    table2 = score_grid(experiment, depth)
    classifier = {
        "control": classifier_metrics(experiment, 0),
        "sn": classifier_metrics(experiment, depth),
    }
    scores = scores_tree(table2, classifier)
    weights = experiment.config(depth, params.seeds[0])["normalized_weights"]
    METRICS.mkdir(exist_ok=True)
    table2.round(4).to_csv(METRICS / "table2.csv", index=False)
    write_json(METRICS / "scores.json", scores)
    write_json(METRICS / "summary.json", summary_tree(scores, depth, weights))

    report = json.loads((PREPARED / "report.json").read_text(encoding="utf-8"))
    classes = read_classes(PREPARED)
    known = {name: paper_set(name, report, classes) for name in params.data.ood}
    figures = {name: TABLE_2[paper] for name, paper in known.items() if paper}
    text = table2_markdown(table2, figures)
    (METRICS / "table2.md").write_text(text, encoding="utf-8")

    draw(experiment, depth)
    print(f"\nTable 2, sn_layers = {depth}\n\n{text}")
    for model, frame in classifier.items():
        print(
            f"{model}: mAP {frame['map'].mean():.2f}% over {frame.classes.min()} of "
            f"{len(classes)} classes; the val threshold accepts {frame.accepted.mean():.2f}% "
            f"of the ID test set"
        )


def draw(experiment: Experiment, depth: int) -> None:
    """Histograms, ROC and PR curves and training curves, as pictures and as series for DVC."""
    PLOTS.mkdir(exist_ok=True)
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
        PLOTS / "histograms.png",
        {model: energy[model, first]["id"] for model in depths},
        {s: {model: energy[model, first][s] for model in depths} for s in experiment.ood_sets},
        {m: experiment.config(layers, first)["threshold"]["tau"] for m, layers in depths.items()},
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
    plot_roc(PLOTS / "roc.png", roc)
    sizes = {name: len(scores) for name, scores in energy["control", first].items()}
    chance = {s: sizes["id"] / (sizes["id"] + sizes[s]) for s in experiment.ood_sets}
    plot_pr(PLOTS / "pr.png", pr, chance)
    history = experiment.history(depths.values())
    plot_training(PLOTS / "training.png", history)

    # Means over seeds: one line for each model and set, so that two experiments overlay.
    mean_roc = roc.groupby(["ood_set", "model", "fpr"], as_index=False)["tpr"].mean()
    mean_roc.round(5).to_csv(PLOTS / "roc.csv", index=False)
    mean_pr = pr.groupby(["ood_set", "model", "recall"], as_index=False)["precision"].mean()
    mean_pr.round(5).to_csv(PLOTS / "pr.csv", index=False)
    history = history.assign(model=["sn" if n else "control" for n in history.sn_layers])
    columns = ["train_loss", "val_loss", "val_map"]
    mean_history = history.groupby(["model", "epoch"], as_index=False)[columns].mean()
    mean_history.round(5).to_csv(PLOTS / "training.csv", index=False)


if __name__ == "__main__":
    run(score)
