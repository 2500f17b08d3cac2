"""Logits, features and hidden layer of train, val and test, for every seed of a depth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from _infer import LIBRARIES, load_models, tuned_noises, write_sets
from _run import FOLDERS, run

from snojoe.params import Params
from snojoe.support.files import atomic_folder, write_json

if TYPE_CHECKING:
    from snojoe.model.classifier import Classifier


def infer(params: Params, sn_layers: int) -> None:
    models = load_models(params, sn_layers)
    with atomic_folder(FOLDERS.outputs / f"sn{sn_layers}" / "id") as folder:
        write_sets(
            params, models, folder, {name: FOLDERS.prepared / name for name in ("train", "val")}
        )
        if params.infer.tune:
            tune_all(params, models, folder)
        noises = tuned_noises(params, folder)
        write_sets(params, models, folder, {"test": FOLDERS.prepared / "test"}, noises)


def tune_all(params: Params, models: list[Classifier], folder: Path) -> None:
    """Choose the noise of ODIN and Mahalanobis for each model, without any OOD image."""
    from snojoe.data.shards import Shards
    from snojoe.inference.tuning import fit_mahalanobis, tune, tuning_images

    images = tuning_images(Shards(FOLDERS.prepared / "val"))
    for model, seed in zip(models, params.seeds, strict=True):
        detector = fit_mahalanobis(folder / f"seed{seed}")
        tuning = tune(model, detector, images, batch_size=params.infer.batch_size)
        write_json(folder / f"seed{seed}" / "tuning.json", tuning)
        print(f"seed {seed}, tuned on {len(images):,} val images: {tuning}")


if __name__ == "__main__":
    run(infer, "sn-layers", libraries=LIBRARIES)
