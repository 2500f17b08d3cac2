"""What infer_id and infer_ood share: one pass per set over the images, for all seeds of a depth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from _run import MODELS

from snojoe.params import Params

if TYPE_CHECKING:
    from snojoe.models import Classifier

Sets = Mapping[str, Path]
"""Name of a set -> folder of its shards."""


def load_models(params: Params, sn_layers: int) -> list[Classifier]:
    """The models of a depth, in the order of the seeds."""
    from snojoe.models import load_model

    return [load_model(MODELS / f"sn{sn_layers}" / f"seed{seed}")[0] for seed in params.seeds]


def write_clean(params: Params, models: list[Classifier], folder: Path, sets: Sets) -> None:
    """What the models say of the images themselves, into ``folder/seed<S>/<set>``."""
    from snojoe.data.shards import Shards
    from snojoe.failures import explained
    from snojoe.inference import write_outputs

    for name, path in sets.items():
        shards = Shards(path)
        targets = [folder / f"seed{seed}" / name for seed in params.seeds]
        with explained("infer.batch_size", params.infer.batch_size):
            write_outputs(models, shards, targets, batch_size=params.infer.batch_size)
        print(f"{name}: {len(shards):,} images, {len(models)} models")


def write_noisy(
    params: Params, models: list[Classifier], folder: Path, sets: Sets, *, tuned: Path
) -> None:
    """What ODIN and Mahalanobis are to read of the images, with the noise that `tuned` chose."""
    from snojoe.data.shards import Shards
    from snojoe.failures import explained
    from snojoe.perturbation import write_noisy_outputs
    from snojoe.tuning import chosen_noises

    noises = [chosen_noises(tuned / f"seed{seed}") for seed in params.seeds]
    for name, shards in sets.items():
        targets = [folder / f"seed{seed}" / name for seed in params.seeds]
        with explained("infer.batch_size", params.infer.batch_size):
            write_noisy_outputs(
                models, noises, Shards(shards), targets, batch_size=params.infer.batch_size
            )
