"""One classifier: a depth of spectral normalisation and a seed."""

import shutil

from _run import CHECKPOINTS, MODELS, PREPARED, WEIGHTS, run

from snojoe.errors import SnojoeError
from snojoe.params import Params


def train(params: Params, sn_layers: int, seed: int) -> None:
    import torch

    from snojoe.batch_norm import fold_spectral_batch_norm
    from snojoe.data.fetch import weights_file
    from snojoe.data.images import preprocessing
    from snojoe.data.loader import TrainSet, TrainTransform
    from snojoe.data.prepare import read_classes
    from snojoe.data.shards import Shards
    from snojoe.decision import fit_decision
    from snojoe.files import atomic_folder, write_csv
    from snojoe.inference import predict_logits
    from snojoe.models import build_classifier, save_model
    from snojoe.spectral_norm import fold_spectral_norm, normalized_weights
    from snojoe.training import fingerprint, train_classifier

    torch.manual_seed(seed)
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
    key = fingerprint(settings, sn_layers, seed, WEIGHTS, PREPARED / "train", PREPARED / "val")
    checkpoint = CHECKPOINTS / "train" / key / "checkpoint.pt"
    record = train_classifier(
        model,
        train_set,
        val,
        params=params.train,
        spectral_norm=params.spectral_norm,
        sn_layers=sn_layers,
        checkpoint=checkpoint,
    )
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
        "normalized_weights": len(normalized_weights(model, sn_layers)),
        "seed": seed,
        **settings,
        **thresholds,
    }
    with atomic_folder(MODELS / f"sn{sn_layers}" / f"seed{seed}") as folder:
        save_model(model, folder, config, val_energies)
        write_csv(folder / "history.csv", record.history)
        write_csv(folder / "sigma.csv", record.sigmas)
    # A finished training never resumes: an edited one would have nothing left to do.
    shutil.rmtree(checkpoint.parent, ignore_errors=True)


if __name__ == "__main__":
    run(train, "sn-layers", "seed")
