"""One classifier: a depth of spectral normalisation and a seed."""

import os
from pathlib import Path

from _run import CHECKPOINTS, FOLDERS, RANK, run

from snojoe.params import Params
from snojoe.support.errors import SnojoeError


def train(params: Params, sn_layers: int, seed: int) -> None:
    import torch

    from snojoe.data.prepared import read_classes
    from snojoe.data.shards import Shards
    from snojoe.model.classifier import build_classifier, save_model
    from snojoe.model.decision import fit_decision
    from snojoe.model.preprocessing import preprocessing
    from snojoe.model.weights import weights_file
    from snojoe.spectral_norm import fold_spectral_norm
    from snojoe.spectral_norm.batch_norm import fold_spectral_batch_norm
    from snojoe.support.failures import explained
    from snojoe.support.files import atomic_folder, write_csv, write_sums
    from snojoe.training.checkpoint import remove_checkpoint
    from snojoe.training.loader import TrainSet, TrainTransform
    from snojoe.training.loop import fingerprint, train_classifier
    from snojoe.training.validation import predict_logits

    torch.set_num_threads(params.train.threads)
    torch.manual_seed(seed)
    if "CUBLAS_WORKSPACE_CONFIG" in os.environ:  # asks for the same bits on a GPU
        torch.use_deterministic_algorithms(True)
    classes = read_classes(FOLDERS.prepared)
    arch = params.model.arch
    model = build_classifier(arch, len(classes), weights_file(FOLDERS.weights))
    augment = params.train.augment
    transform = TrainTransform(
        params.data.image_size, (augment.scale[0], augment.scale[1]), augment.flip
    )
    train_set = TrainSet(FOLDERS.prepared / "train", transform, seed)
    val = Shards(FOLDERS.prepared / "val")

    settings = params.model_dump(include={"model", "spectral_norm", "train"})
    sources = [
        Path(__file__),
        FOLDERS.weights,
        FOLDERS.prepared / "train",
        FOLDERS.prepared / "val",
    ]
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
    val_logits, val_labels = predict_logits(model, val)
    if val_labels is None:
        raise SnojoeError(f"{val.folder}: expected labelled images")
    val_ids = val.table(["id"])["id"].to_pylist()
    thresholds, val_energies = fit_decision(classes, val_ids, val_labels, val_logits)
    config = {
        "arch": arch,
        "classes": classes,
        "preprocessing": preprocessing(val.image_size),
        "sn_layers": sn_layers,
        "normalized_weights": sum(r["normalized"] for r in record.sigmas if r["epoch"] == 0),
        "seed": seed,
        **settings,
        **thresholds,
    }
    with atomic_folder(FOLDERS.models / f"sn{sn_layers}" / f"seed{seed}") as folder:
        save_model(model, folder, config, val_energies)
        write_csv(folder / "history.csv", record.history)
        write_csv(folder / "sigma.csv", record.sigmas)
        write_sums(folder)
    remove_checkpoint(checkpoint)


if __name__ == "__main__":
    libraries = ["numpy", "scipy.linalg", "torch"]
    run(train, "sn-layers", "seed", libraries=libraries, several_processes=True)
