"""The files of a small experiment, made by hand: what the report reads."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from committed import committed
from conftest import model_config
from example_tables import classifiers, estimates_of, one_network, statistics, table2, table3
from PIL import Image

from snojoe.data.shards import ShardRow, write_shards
from snojoe.detectors import DETECTORS
from snojoe.detectors.store import keep_detector, write_store
from snojoe.experiment import Folders
from snojoe.model.folder import Threshold
from snojoe.params import Ablation, load_params
from snojoe.results.scores_json import scores_of, write_scores
from snojoe.results.statistics_json import write_statistics
from snojoe.results.stored import Experiment
from snojoe.results.table3 import ablation_series
from snojoe.support.files import write_json

LABELS = ["cat", "<b>dog</b>", "cow"]
SETS = ("a", "texture")
IMAGES = {"id": 12, "a": 10, "texture": 9}
PLOTS = ("ablation", "distances", "histograms", "leaderboard", "pr", "roc", "sigma", "training")
TAU = 2.0
SIDE = 24


def outputs(folder, images, *, labels=False, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(0, 2, (images, len(LABELS))) for name in ("logits", "features")}
    arrays["hidden"] = arrays["features"]
    if labels:
        arrays["labels"] = np.eye(len(LABELS), dtype=np.uint8)[np.arange(images) % len(LABELS)]
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def shards(folder, images, side=SIDE):
    """Image i is grey of the value i, and its id is ``i.jpg`` in a folder that needs escaping."""
    rows = (ShardRow(f'"><i>/{i}.jpg', bytes([i]) * (side * side * 3), None) for i in range(images))
    write_shards(folder, rows, split="x", content="pixels", image_size=side)


def prepared_sets(**images):
    """What preprocess reports of the paper's test images and of OOD sets."""
    ood = {name: {"images": count} for name, count in images.items()}
    positives = dict(zip(LABELS, (40, 3, 30), strict=True))
    splits = {"test": {"images": 10_991}, "train": {"images": 70, "positives": positives}}
    return {"id": splits, "ood": ood, "id_test_is_val": False}


CALIBRATION = np.arange(1.0, 40.0)  # of which the second is the threshold for 95%
PSEUDO = {"joint_energy": 0.5, "max_logit": 0.7, "msp": 0.3, "odin": 0.4}
CAUGHT = {"joint_energy": 4, "max_logit": 8, "msp": 6, "odin": 2}
"""Of each score, how many images of each OOD set its threshold refuses; of the ID ones, one."""


def detector_store(folder):
    """A detector for each of a few scores, with the same calibration, and what each measured."""
    folder.mkdir(parents=True)
    measured = {}
    for score in PSEUDO:
        detector = DETECTORS[score]().fit(np.zeros((4, len(LABELS))))
        detector.calibrate_scores(CALIBRATION)
        keep_detector(folder, detector)
        measured[score] = {
            name: np.where(np.arange(count) < (1 if name == "id" else CAUGHT[score]), 1.0, 9.0)
            for name, count in IMAGES.items()
        }
    write_store(folder, measured, model="m", val="v", pseudo_fpr95=PSEUDO)


def make_experiment(tmp_path, depth=9):
    """Folders, parameters and an `Experiment` of two seeds; of one network where `depth` is 0."""
    folders = Folders(tmp_path)
    metrics, plots, prepared = folders.metrics, folders.plots, folders.prepared
    for folder in (metrics, plots, prepared):
        folder.mkdir(parents=True)
    both = depth > 0
    table = table2(SETS) if both else one_network(table2(SETS))
    quality = classifiers() if both else {"control": classifiers()["control"]}
    write_statistics(metrics / "statistics.json", statistics(table, images=IMAGES))
    write_scores(metrics / "scores.json", scores_of(table, quality))
    table.to_csv(metrics / "table2.csv", index=False)
    pd.DataFrame(
        {"ood_set": name, "ood_class": f"<i>{name}{i}", "images": 3, "score": "joint_energy"}
        | {"model": "sn" if both else "control", "fpr95": 10.0 * i, "auroc": 90.0 - i}
        for name in SETS
        for i in range(12)
    ).to_csv(metrics / "ood_classes.csv", index=False)
    if both:
        depths = pd.concat(table3().assign(ood_set=name) for name in SETS)
        depths.to_csv(metrics / "table3.csv", index=False)
        series = ablation_series(depths, estimates_of(depths, "sn_layers", 5.0))
        series.to_csv(plots / "ablation.csv", index=False)
    models = ("control", "sn") if both else ("control",)
    ratios = {"lower": 0.1, "upper": 0.4, "spread": 4.0, "spearman": 0.5}
    pd.DataFrame(
        {"model": model, "seed": seed, "pair": pair, **ratios}
        for model in models
        for seed in (0, 1)
        for pair in ("id", *SETS)
    ).to_csv(metrics / "distances.csv", index=False)
    pd.DataFrame(
        {"model": model, "weight": f"w{layer}", "layer": layer, "normalized": model == "sn"}
        | {"epoch": epoch, "sigma": 10.0 * layer + epoch, "raw_sigma": 1.0}
        for model in models
        for layer in (0, 1, 5)
        for epoch in (0, 4)
    ).to_csv(plots / "sigma.csv", index=False)
    pd.DataFrame(
        {"model": model, "epoch": epoch, "train_loss": 0.5, "val_loss": 0.6, "val_map": 0.7}
        for model in models
        for epoch in (1, 2)
    ).to_csv(plots / "training.csv", index=False)
    for name in PLOTS if both else PLOTS[1:]:
        Image.new("RGB", (1000, 300), "white").save(plots / f"{name}.png")

    write_json(prepared / "classes.json", LABELS)
    write_json(prepared / "report.json", prepared_sets(**{name: IMAGES[name] for name in SETS}))
    shards(folders.shards("test"), IMAGES["id"])
    for name in SETS:
        shards(folders.shards(name), IMAGES[name])
    for seed in (0, 1):
        model = folders.model(depth, seed)
        model.mkdir(parents=True)
        threshold = Threshold(accept=0.95, tau=TAU)
        config = model_config("abc", normalized_weights=12, threshold=threshold)
        (model / "config.json").write_text(config.model_dump_json())
        outputs(folders.outputs(depth, seed, "test"), IMAGES["id"], labels=True)
        outputs(folders.outputs(depth, seed, "val"), 30, labels=True)
        detector_store(folders.detectors_of(depth, seed))
        for i, name in enumerate(SETS):
            outputs(folders.outputs(depth, seed, name), IMAGES[name], seed=i + 1)

    path = tmp_path / "params.yaml"
    path.write_text(committed("params.yaml"))
    params = load_params(path)
    ood = {name: next(iter(params.data.ood.values())) for name in SETS}
    params = params.model_copy(
        update={"data": params.data.model_copy(update={"ood": ood}), "seeds": [0, 1]}
        | ({} if both else {"sn_layers": 0, "ablation": Ablation(sn_layers=[0])})
    )
    return SimpleNamespace(
        params=params, folders=folders, experiment=Experiment.of(params, folders)
    )
