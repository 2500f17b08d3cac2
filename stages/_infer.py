"""What infer_id and infer_ood share: one pass per set over the images, for all seeds of a depth."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from _run import MODELS, OUTPUTS, PREPARED, run

from snojoe.params import Params


def main(kind: str, sets_of: Callable[[Params], list[str]]) -> None:
    parser = argparse.ArgumentParser(description=f"Outputs of all models of a depth, {kind} sets.")
    parser.add_argument("--sn-layers", type=int, required=True)
    sn_layers = parser.parse_args().sn_layers
    run(lambda params: infer(params, sn_layers, kind, sets_of(params)))


def infer(params: Params, sn_layers: int, kind: str, sets: list[str]) -> None:
    from snojoe.data.shards import Shards
    from snojoe.files import atomic_folder
    from snojoe.inference import write_outputs
    from snojoe.models import load_model

    name = f"sn{sn_layers}"
    models = [load_model(MODELS / name / f"seed{seed}")[0] for seed in params.seeds]
    with atomic_folder(OUTPUTS / name / kind) as folder:
        for each in sets:
            shards = Shards(PREPARED / (each if kind == "id" else f"ood/{each}"))
            targets = [folder / f"seed{seed}" / each for seed in params.seeds]
            write_outputs(models, shards, targets, batch_size=params.infer.batch_size)
            print(f"{name} {each}: {len(shards):,} images, {len(models)} models")
