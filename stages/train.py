"""One classifier: a depth of spectral normalisation and a seed."""

import os
from pathlib import Path

from _run import CHECKPOINTS, MODELS, PREPARED, RANK, WEIGHTS, run

from snojoe.params import Params


def train(params: Params, sn_layers: int, seed: int) -> None:
    import pandas as pd
    import torch

    from snojoe.batch_norm import fold_spectral_batch_norm
    from snojoe.checkpoint import remove_checkpoint
    from snojoe.data.fetch import weights_file
    from snojoe.data.loader import TrainSet, TrainTransform
    from snojoe.data.prepare import read_classes
    from snojoe.data.shards import Shards
    from snojoe.detectors import JointEnergy
    from snojoe.failures import explained
    from snojoe.files import atomic_folder, write_sums
    from snojoe.inference import predict_logits
    from snojoe.models import build_classifier, save_model
    from snojoe.spectral_norm import fold_spectral_norm, normalized_weights
    from snojoe.training import fingerprint, train_classifier

    torch.manual_seed(seed)
    if "CUBLAS_WORKSPACE_CONFIG" in os.environ:  # asks for the same bits on a GPU
        torch.use_deterministic_algorithms(True)
    classes = read_classes(PREPARED)
    arch = params.model.arch
    model = build_classifier(arch, len(classes), weights_file(WEIGHTS))
    augment = params.train.augment
    transform = TrainTransform(
        params.data.image_size, (augment.scale[0], augment.scale[1]), augment.flip
    )
    train_set = TrainSet(PREPARED / "train", transform, seed)
    val = Shards(PREPARED / "val")

    settings = params.model_dump(include={"model", "spectral_norm", "train"})
    sources = [Path(__file__), WEIGHTS, PREPARED / "train", PREPARED / "val"]
    checkpoint = CHECKPOINTS / "train" / f"{fingerprint(settings, sn_layers, seed, *sources)}.pt"
    with explained("train.batch_size", params.train.batch_size):
        record = train_classifier(
            model,
            train_set,
            val,
            params=params.train,
            spectral_norm=params.spectral_norm,
            sn_layers=sn_layers,
            checkpoint=checkpoint,
        )
    if RANK:
        return
    fold_spectral_batch_norm(fold_spectral_norm(model))
    val_logits, _ = predict_logits(model, val)
    detector = JointEnergy(accept=0.95).fit(val_logits)
    config = {
        "arch": arch,
        "classes": classes,
        "image_size": val.image_size,
        "sn_layers": sn_layers,
        "normalized_weights": len(normalized_weights(model, sn_layers)),
        "seed": seed,
        **settings,
        "threshold": {"accept": detector.accept, "tau": detector.offset_},
    }
    with atomic_folder(MODELS / f"sn{sn_layers}" / f"seed{seed}") as folder:
        save_model(model, folder, config)
        pd.DataFrame(record.history).to_csv(folder / "history.csv", index=False)
        pd.DataFrame(record.sigmas).to_csv(folder / "sigma.csv", index=False)
        write_sums(folder)
    remove_checkpoint(checkpoint)


if __name__ == "__main__":
    run(train, "sn-layers", "seed", several_processes=True)
