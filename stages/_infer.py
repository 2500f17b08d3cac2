"""What infer_id and infer_ood share: one pass per set over the images, for all seeds of a depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _run import FOLDERS

from snojoe.params import Params

if TYPE_CHECKING:
    from snojoe.inference.perturbation import Noise
    from snojoe.model.classifier import Classifier

LIBRARIES = ["numpy", "scipy.linalg", "torch"]

Sets = Mapping[str, Path]
"""Name of a set -> folder of its shards."""


def load_models(params: Params, sn_layers: int) -> list[Classifier]:
    """The models of a depth, in the order of the seeds."""
    import torch

    from snojoe.model.folder import load_model

    torch.set_num_threads(params.infer.threads)
    return [
        load_model(FOLDERS.models / f"sn{sn_layers}" / f"seed{seed}")[0] for seed in params.seeds
    ]


def write_sets(
    params: Params,
    models: list[Classifier],
    folder: Path,
    sets: Sets,
    noises: Sequence[Mapping[str, Noise]] = (),
) -> None:
    """What the models say of the images, with each model's noises too: ``folder/seed<S>/<set>``."""
    from snojoe.data.shards import Shards
    from snojoe.inference.passes import write_outputs
    from snojoe.support.failures import explained

    batch_size = params.infer.batch_size
    for name, path in sets.items():
        shards = Shards(path)
        targets = [folder / f"seed{seed}" / name for seed in params.seeds]
        with explained("infer.batch_size", batch_size):
            write_outputs(models, shards, targets, batch_size=batch_size, noises=noises)
        print(f"{name}: {len(shards):,} images, {len(models)} models")


def tuned_noises(params: Params, folder: Path) -> list[dict[str, Noise]]:
    """For each model the noise by score that tuning chose (``folder/seed<S>/tuning.json``).

    There is none without ``infer.tune``.
    """
    if not params.infer.tune:
        return [{} for _ in params.seeds]
    from snojoe.inference.tuning import chosen_noises

    return [chosen_noises(folder / f"seed{seed}") for seed in params.seeds]
