"""Do the intervals hold what they promise where scenes share handwriting? Fresh draws of digits.

Takes the default experiment's trained models, the control and the SN model of the first seed, and
draws many small test sets and novel sets: each from few digit images of its own, that the models
have not been trained on, which its scenes share as the default's do. Prints how often the 95%
interval of a draw holds the metric of all draws together, with clusters and as if scenes were
independent.

    python experiments/coverage.py --draws 120
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from snojoe.data.digits import CLASSES, NOVEL_CLASSES, Glyph, draw_scenes, load_glyphs, split_glyphs
from snojoe.data.images import to_square
from snojoe.data.preprocessing import preprocessing_of
from snojoe.experiment import Folders
from snojoe.measures.clusters import Clusters
from snojoe.measures.estimates import Estimate, estimates
from snojoe.measures.metrics import FloatArray
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.model.classifier import Classifier
from snojoe.model.energy import joint_energy
from snojoe.model.folder import load_model
from snojoe.params import Params, load_params
from snojoe.support.progress import progress

SCENES = 600
PER_CLASS = {"id": 9, "ood": 22}  # digit images of a draw: 63 of 506, and 66 of 533

Glyphs = Mapping[str, list[Glyph]]


def pools(params: Params) -> dict[str, Glyphs]:
    """Digit images that no model was trained on, of the familiar and of the novel classes."""
    glyphs = load_glyphs()
    shares = split_glyphs({name: glyphs[name] for name in CLASSES}, params.data.digits.seed)
    return {
        "id": {name: shares["val"][name] + shares["test"][name] for name in CLASSES},
        "ood": {name: glyphs[name] for name in NOVEL_CLASSES},
    }


def draw(
    pool: Glyphs, per_class: int, params: Params, seed: tuple[int, int]
) -> tuple[torch.Tensor, Clusters]:
    """Scenes of few digit images, (SCENES, H, W, 3) uint8, and which of them share one."""
    rng = np.random.default_rng(seed)
    few = {
        name: [found[i] for i in rng.choice(len(found), per_class, replace=False)]
        for name, found in pool.items()
    }
    scenes = list(draw_scenes(few, SCENES, params.data.digits.size, seed))
    pixels = [to_square(scene.image, preprocessing_of(params.data)) for scene in scenes]
    groups = [[str(each.glyph) for each in scene.objects] for scene in scenes]
    return torch.from_numpy(np.stack(pixels)), Clusters.of(groups)


@torch.inference_mode()
def energies(models: Mapping[str, Classifier], pixels: torch.Tensor) -> dict[str, FloatArray]:
    """Joint energies (1, n) of each model."""
    return {
        name: joint_energy(model.eval()(model.normalise(pixels)).numpy().astype(float))[None]
        for name, model in models.items()
    }


def quantities(of: Mapping[str, Mapping[str, Estimate]]) -> dict[tuple[str, str], Estimate]:
    """The control's metrics, and the differences of the SN model."""
    found = {}
    for metric in OOD_METRICS:
        control, sn = of["control"][metric.name], of["sn"][metric.name]
        found[metric.title, "control"] = control
        found[metric.title, "difference"] = sn - control
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=120)
    draws = parser.parse_args().draws
    params = load_params()
    torch.set_num_threads(1)
    folders, seed = Folders(Path()), params.seeds[0]
    depths = {"control": 0, "sn": params.sn_layers}
    models = {name: load_model(folders.model(depth, seed))[0] for name, depth in depths.items()}
    pool = pools(params)

    everything: dict[str, list[dict[str, FloatArray]]] = {"id": [], "ood": []}
    clustered, independent = [], []
    effective = []
    for number in progress(range(draws), total=draws, desc="draws", unit="draw"):
        sets = {}
        for which, (name, glyphs) in enumerate(pool.items()):
            pixels, clusters = draw(glyphs, PER_CLASS[name], params, (1000 + number, which))
            sets[name] = energies(models, pixels), clusters
            everything[name].append(sets[name][0])
        (familiar, id_clusters), (novel, ood_clusters) = sets["id"], sets["ood"]
        clustered.append(quantities(estimates(familiar, novel, id_clusters, ood_clusters)))
        independent.append(quantities(estimates(familiar, novel)))
        effective.append(clustered[-1]["AUROC", "difference"].effective_images)

    familiar, novel = (
        {model: np.concatenate([each[model] for each in of], axis=1) for model in models}
        for of in (everything["id"], everything["ood"])
    )
    truth = quantities(estimates(familiar, novel))
    print(f"{draws} draws; coverage of 95% intervals, percent, and their mean width, points")
    for key, true in truth.items():
        cells = []
        for found in (clustered, independent):
            ends = np.array([each[key].interval() for each in found])
            held = np.mean((ends[:, 0] <= true.value) & (true.value <= ends[:, 1]))
            cells.append(f"{100 * held:5.1f} ({100 * np.mean(ends[:, 1] - ends[:, 0]):5.2f})")
        print(f"{key[0]:6} {key[1]:10}  clustered {cells[0]}  as if independent {cells[1]}")
    print(f"effective images of the difference of AUROC, median: {np.median(effective, axis=0)}")


if __name__ == "__main__":
    main()
