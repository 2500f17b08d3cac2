"""What `snojoe init` should choose for small data, tried on photographs.

Of VOC2012's train and val and VOC2007's trainval so many images are drawn as somebody has labelled,
and divided as `snojoe init` divides them; recipes are compared on VOC2007's test and two OOD sets,
which have 841, 1,076 and 900 images whatever the number. FOLDER has archives/ and weights/.
Killed and called again, it goes on with the trainings that are missing.

    python experiments/recipes.py FOLDER docs/findings/recipes.csv
"""

from __future__ import annotations

import argparse
import os
import tarfile
import time
from contextlib import redirect_stdout
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from findings import append

from snojoe.params import Params, load_params
from snojoe.results.formatting import markdown_table

YEARS = {"VOC2012": ("train", "val"), "VOC2007": ("trainval",)}
OOD = {"objects": "archives/imagenet22k", "dtd": "archives/dtd-subset.tar"}
MOBILENET = ("mobilenet_v2", "weights/mobilenet_v2_kerasint8-408949a8.pth", None)
LITE0 = (
    "timm/tf_efficientnet_lite0",
    "weights/tf_efficientnet_lite0-in1k.safetensors",
    "timm/tf_efficientnet_lite0",
)
COUNTS = (200, 800, 1600)
FIELDS = (
    "recipe", "images", "seed", "seconds", "cpu_seconds", "val_map", "test_map", "ood_set", "auroc",
    "fpr95",
)  # fmt: skip

# Name: network, edge of the images, rate of the trunk beside the head's, and what else differs.
RECIPES: dict[str, tuple[tuple[str, str, str | None], int, float, dict[str, Any]]] = {
    "128 px trunk 0.1": (MOBILENET, 128, 0.1, {}),
    "128 px trunk 0": (MOBILENET, 128, 0.0, {}),
    "224 px trunk 0": (MOBILENET, 224, 0.0, {}),
    "224 px trunk 0.1": (MOBILENET, 224, 0.1, {}),
    "224 px trunk 0.01": (MOBILENET, 224, 0.01, {}),
    "timm trunk 0": (LITE0, 224, 0.0, {}),
    "timm trunk 0.01": (LITE0, 224, 0.01, {}),
}


def settings(recipe: str, images: int, seed: int, folder: Path) -> Params:
    """What `snojoe init` writes for so many images, but for what the recipe names."""
    (arch, weights, preprocessing), edge, factor, others = RECIPES[recipe]
    tree = load_params().model_dump()
    tree["sn_layers"], tree["seeds"], tree["arithmetic"] = 0, [seed], "native"
    tree["ablation"]["sn_layers"] = [0]
    split = {name: [f"{year}/{name}{images}" for year in YEARS] for name in ("train", "val")}
    tree["data"] |= {
        "folder": str(folder),
        "id": [{"path": "photographs"}],
        "ood": {name: {"path": path} for name, path in OOD.items()},
        "splits": split | {"test": ["VOC2007/test"]},
        "image_size": edge,
        "preprocessing": preprocessing,
    }
    tree["model"] |= {"arch": arch, "weights": weights}
    train = round(0.7 * images)
    epochs = min(30, max(4, round(12_000 / train)))
    tree["train"] |= {
        "epochs": epochs,
        "batch_size": 16 if train < 1000 else 32,
        "lr": 0.002,
        "trunk_lr_factor": factor,
        "freeze_after_epoch": epochs // 2,
        "augment": {"flip": 0.5, "scale": [0.5, 1.0]},
    } | others
    tree["infer"]["batch_size"] = 64
    return Params.model_validate(tree)


def write_lists(folder: Path, lists: Path) -> None:
    """The photographs with a list of train and val for each number of images."""
    if lists.exists():
        return
    unfinished = lists.with_suffix(".tmp")
    for year in YEARS:
        with tarfile.open(folder / f"archives/{year.lower()}-subset.tar") as archive:
            archive.extractall(unfinished, filter="data")
    there = []
    for year, names in YEARS.items():
        main = unfinished / "VOCdevkit" / year / "ImageSets/Main"
        listed = [(main / f"{name}.txt").read_text().split() for name in names]
        there += [(year, name) for name in sorted({n for each in listed for n in each})]
    order = np.random.default_rng(0).permutation(len(there))
    for images in COUNTS:
        drawn = [there[i] for i in order[:images]]
        train, val = round(0.7 * images), round(0.15 * images)
        for split, part in (("train", drawn[:train]), ("val", drawn[train : train + val])):
            for year in YEARS:
                of_year = [name for of, name in part if of == year]
                path = unfinished / "VOCdevkit" / year / f"ImageSets/Main/{split}{images}.txt"
                path.write_text("".join(f"{name}\n" for name in of_year))
    unfinished.rename(lists)


def work(recipe: str, images: int, seed: int, options: argparse.Namespace) -> None:
    """One training and what it is worth."""
    from snojoe.data.fetch import fetch, locate
    from snojoe.data.prepare import prepare
    from snojoe.data.weights import fetch_weights
    from snojoe.detectors.outputs import load_outputs
    from snojoe.experiment import Folders
    from snojoe.inference.infer import infer_id, infer_ood
    from snojoe.measures.metrics import auroc, fpr_at_tpr, mean_average_precision
    from snojoe.model.energy import joint_energy
    from snojoe.model.folder import read_history
    from snojoe.training.run import train_model

    params = settings(recipe, images, seed, options.scratch)
    scratch = options.scratch / f"{recipe.replace(' ', '-')}-{images}-{seed}"
    folders = Folders(scratch)
    if not folders.prepared.exists():
        fetch(params.data, folders.raw, scratch / "downloads")
        fetch_weights(params.model.arch, params.model.weights, options.scratch, folders.weights)
        prepare(
            params.data, partial(locate, folder=options.scratch, raw=folders.raw), folders.prepared
        )
    started, cpu = time.monotonic(), time.process_time()
    model = folders.model(0, seed)
    if not model.exists():
        train_model(params, 0, seed, folders, scratch / "checkpoints")
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    infer_id(params, folders, 0)
    infer_ood(params, folders, 0)
    outputs = {name: load_outputs(folders.outputs(0, seed, name)) for name in ("test", *OOD)}
    test = outputs["test"]
    assert test.labels is not None
    shared = {
        "recipe": recipe, "images": images, "seed": seed, "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        "val_map": round(100 * float(read_history(model).val_map.iloc[-1]), 2),
        "test_map": round(100 * mean_average_precision(test.labels, test.logits), 2),
    }  # fmt: skip
    energies = {name: joint_energy(of.logits.astype(np.float64)) for name, of in outputs.items()}
    rows = []
    for ood in OOD:
        area, rate = (f(energies["test"], energies[ood]) for f in (auroc, fpr_at_tpr))
        measured = {"auroc": f"{100 * area:.2f}", "fpr95": f"{100 * rate:.2f}"}
        rows.append({**shared, "ood_set": ood, **measured})
    append(options.table, rows, FIELDS)


def markdown(table: pd.DataFrame) -> str:
    """A row for each recipe and number of images: means over seeds."""
    rows = []
    present = set(zip(table.recipe, table.images, strict=True))
    for images, recipe in product(COUNTS, RECIPES):
        if (recipe, images) not in present:
            continue
        found = table[(table.recipe == recipe) & (table.images == images)]
        by_set = found.groupby("ood_set")[["auroc", "fpr95"]].mean()
        means = found[["test_map", "cpu_seconds"]].mean()
        cells = [f"{by_set.auroc[ood]:.1f}, {by_set.fpr95[ood]:.1f}" for ood in OOD]
        minutes = f"{means.cpu_seconds / 60:.1f}"
        rows.append([f"{images:,}: {recipe}", f"{means.test_map:.1f}", *cells, minutes])
    heading = ["images: recipe", "mAP ↑", *(f"{ood}: AUROC ↑, FPR95 ↓" for ood in OOD)]
    return markdown_table([*heading, "CPU minutes"], rows)


def ranked(recipe: str, images: int, seed: int, scratch: Path) -> str:
    """Every score by the network that a recipe has left, and what tuning it comes to."""
    from snojoe.experiment import Folders
    from snojoe.results.leaderboard import leaderboard, leaderboard_markdown
    from snojoe.results.stored import Experiment
    from snojoe.results.tuned_scores import tuned_markdown, tuned_places, tuned_score_grid

    folders = Folders(scratch / f"{recipe.replace(' ', '-')}-{images}-{seed}")
    experiment = Experiment(folders, list(OOD), [seed])
    grid, tuned = tuned_score_grid(experiment, 0)
    places = leaderboard(grid, experiment.clusters(), tuned_places(tuned))
    text = leaderboard_markdown(places, dict.fromkeys(OOD), seeds=1)
    return f"{text}\n{tuned_markdown(grid, tuned)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="with archives and weights")
    parser.add_argument("table", type=Path, help="to write, or to go on with")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--images", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--show", action="store_true", help="print the table as Markdown alone")
    parser.add_argument(
        "--leaderboard",
        action="store_true",
        help="print every score of the first recipe and number",
    )
    parser.add_argument("--scratch", type=Path, default=Path(".checkpoints/recipes"))
    options = parser.parse_args()
    if options.show:
        return print(markdown(pd.read_csv(options.table)))
    if options.leaderboard:
        first = options.recipes[0], options.images[0], options.seeds[0]
        return print(ranked(*first, options.scratch))
    options.scratch = options.scratch.resolve()
    options.scratch.mkdir(parents=True, exist_ok=True)
    for name in ("archives", "weights"):
        if not (options.scratch / name).exists():
            (options.scratch / name).symlink_to((options.folder / name).resolve())
    write_lists(options.folder, options.scratch / "photographs")
    if not options.table.exists():
        options.table.write_text(f"{','.join(FIELDS)}\n")
    table = pd.read_csv(options.table)
    done = set(zip(table.recipe, table.images, table.seed, strict=True))
    for images in options.images:
        for seed in options.seeds:
            for recipe in options.recipes:
                if (recipe, images, seed) not in done:
                    with Path(os.devnull).open("w") as silence, redirect_stdout(silence):
                        work(recipe, images, seed, options)


if __name__ == "__main__":
    main()
