"""One training as a whole: from the prepared data to the folder of a model."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from snojoe.data.prepared import read_classes
from snojoe.data.shards import Shards
from snojoe.data.stable import calibration_part
from snojoe.experiment import Folders
from snojoe.model.classifier import Classifier, build_classifier, check_classifier
from snojoe.model.decision import fit_decision
from snojoe.model.folder import ModelConfig, change_depth, save_model
from snojoe.model.own_network import build_own, check_own
from snojoe.model.pixels import default_device
from snojoe.model.preprocessing import Preprocessing, read_resize
from snojoe.model.weights import NETWORK, weights_file
from snojoe.params import Params
from snojoe.spectral_norm import fold_spectral_norm
from snojoe.spectral_norm.batch_norm import fold_spectral_batch_norm
from snojoe.spectral_norm.counted_layers import first_layers
from snojoe.support.failures import explained
from snojoe.support.files import atomic_folder, read_sums
from snojoe.support.made_before import copy_made_before, fingerprint, note
from snojoe.support.processes import is_first_process, process_count, say
from snojoe.training.checkpoint import remove_checkpoint
from snojoe.training.loader import InEpochs, TrainSet, TrainTransform
from snojoe.training.loop import train_classifier
from snojoe.training.outliers import AuxiliaryOutliers, PseudoOutliers
from snojoe.training.record import Record
from snojoe.training.validation import predict_labelled, validate


def train_model(
    params: Params, sn_layers: int, seed: int, folders: Folders, checkpoints: Path
) -> None:
    """Train one classifier and write its folder, ``models/sn<L>/seed<S>``.

    Parameters
    ----------
    params : Params
    sn_layers : int
        Depth of SN.
    seed : int
        Of the head's initial weights, the order of the images and their augmentation.
    folders : Folders
        With the initial weights and the prepared splits train and val, and outliers where asked.
    checkpoints : Path
        Where the training's checkpoint lies until it is done. One that was interrupted goes on from
        there, to the bits of an uninterrupted one, unless anything that decides them has changed.

        Beside it stays a note of where the model lies: a depth that normalises the same weights
        copies it.

    Raises
    ------
    SnojoeError
        If the data are missing or damaged, or the training fails.
    """
    _make_deterministic(params.train.threads, seed)
    classes = read_classes(folders.prepared)
    known = _known(params, classes, sn_layers, seed)
    arch, size = params.model.arch, params.data.image_size
    if params.model.own is not None:
        _take_own(known, params, folders, sn_layers, seed)
        return
    model = build_classifier(arch, len(classes), weights_file(folders.weights), size)
    check_classifier(model, arch, [sn_layers], size)
    sets = [folders.prepared / "train", folders.prepared / "val"]
    sets += [folders.outliers] if params.train.outliers == "auxiliary" else []
    for folder in sets:
        read_sums(folder)
    what = _what_trains(model, known)
    name = fingerprint(params.arithmetic, what, folders.weights, *sets)
    target = folders.model(sn_layers, seed)
    made = checkpoints / f"{name}.json"
    if process_count() == 1 and made.exists() and _copied(made, target, sn_layers):
        return
    val = Shards(folders.prepared / "val")
    model.mean, model.std = val.preprocessing.mean, val.preprocessing.std
    train = _train_set(folders.prepared / "train", params, seed, val.preprocessing)
    outliers = _outliers(folders, params, train)
    checkpoint = checkpoints / f"{name}.pt"
    with explained("train.batch_size", params.train.batch_size):
        record = train_classifier(
            model,
            train,
            val,
            params=params.train,
            spectral_norm=params.spectral_norm,
            sn_layers=sn_layers,
            outliers=outliers,
            checkpoint=checkpoint,
        )
    if is_first_process():
        with atomic_folder(target) as folder:
            _write_model(folder, model, val, record, known)
        note(made, target)
        remove_checkpoint(checkpoint)


def _what_trains(model: Classifier, known: dict[str, Any]) -> dict[str, Any]:
    """What is known, with the parameters that lie in the normalised layers instead of the depth."""
    layers = first_layers(model, known["sn_layers"])
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in inside]
    return {**known, "sn_layers": names}


def _copied(path: Path, target: Path, sn_layers: int) -> bool:
    """Whether a training of the very same weights has left its model, which is now this one's."""
    try:
        with atomic_folder(target) as folder:
            source = copy_made_before(path, folder, target)
            change_depth(folder, sn_layers)
    except LookupError:
        return False
    say(f"depth {sn_layers} normalises the weights of {source}, whose model is copied")
    return True


def _take_own(
    known: dict[str, Any], params: Params, folders: Folders, sn_layers: int, seed: int
) -> None:
    """Write the folder of a network that is trained already; its table of epochs has one row, 0."""
    code, own = folders.weights / NETWORK, known["model"]["own"]
    model = build_own(code, own, known["classes"], weights_file(folders.weights))
    check_own(model, own, params.data.image_size)
    val = Shards(folders.prepared / "val")
    model.mean, model.std = val.preprocessing.mean, val.preprocessing.std
    model.to(default_device())
    record = Record()
    record.add_sigmas(model)
    record.history.append({"epoch": 0, "train_loss": math.nan, **validate(model, val)})
    if is_first_process():
        with atomic_folder(folders.model(sn_layers, seed)) as folder:
            shutil.copyfile(code, folder / NETWORK)
            _write_model(folder, model, val, record, known)


def _make_deterministic(threads: int, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    if "CUBLAS_WORKSPACE_CONFIG" in os.environ:  # asks for the same bits on a GPU
        torch.use_deterministic_algorithms(True)


def _known(params: Params, classes: list[str], sn_layers: int, seed: int) -> dict[str, Any]:
    """What `ModelConfig` is to hold of what is known before the training; it decides the result."""
    sections = params.model_dump(include={"model", "spectral_norm", "train"})
    if params.model.own is None:
        del sections["model"]["own"]  # which earlier models have not, as what follows
    for name, without in (("loss", "bce"), ("outliers", None)):
        if sections["train"][name] == without:
            del sections["train"][name]
    return {
        "arch": params.model.arch,
        "classes": classes,
        "sn_layers": sn_layers,
        "seed": seed,
        **sections,
    }


def _train_set(folder: Path, params: Params, seed: int, made: Preprocessing) -> TrainSet:
    augment = params.train.augment
    low, high = augment.scale
    how = read_resize(made.resize).interpolation
    transform = TrainTransform(made.image_size, (low, high), augment.flip, how)
    return TrainSet(folder, transform, seed)


def _outliers(folders: Folders, params: Params, train: TrainSet) -> InEpochs | None:
    """What ``train.outliers`` asks for.

    Raises
    ------
    SnojoeError
        If the user's were not prepared, or are damaged.
    """
    if params.train.outliers == "pseudo_ood":
        return PseudoOutliers(train)
    if params.train.outliers == "auxiliary":
        shards = Shards(folders.outliers)
        return AuxiliaryOutliers(shards, train.transform, train.seed, len(train))
    return None


def _write_model(
    folder: Path, model: Classifier, val: Shards, record: Record, known: dict[str, Any]
) -> None:
    """Fold SN into the weights, fit the decision on val and write everything; see `ModelConfig`."""
    fold_spectral_batch_norm(fold_spectral_norm(model))
    logits, labels = predict_labelled(model, val)
    ids = val.table(["id"])["id"].to_pylist()
    calibrating = calibration_part(ids, val.groups())
    fitted, energies = fit_decision(known["classes"], ids, labels, logits, calibrating)
    config = ModelConfig(
        preprocessing=val.preprocessing,
        normalized_weights=record.normalized_weights,
        **known,
        **fitted,
    )
    save_model(model, folder, config, energies, history=record.history, sigmas=record.sigmas)
