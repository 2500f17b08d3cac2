"""Training: binary cross-entropy on logits, Adam with two rates, SN and BatchNorm as asked."""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from snojoe.data.shards import Shards
from snojoe.measures.metrics import mean_average_precision
from snojoe.model.classifier import Classifier
from snojoe.model.pixels import normalise
from snojoe.params import SpectralNormParams, Train
from snojoe.spectral_norm import apply_spectral_norm, spectral_norms
from snojoe.spectral_norm.batch_norm import apply_spectral_batch_norm
from snojoe.support.errors import SnojoeError
from snojoe.support.files import SUMS
from snojoe.support.progress import progress
from snojoe.training.batch_norm import freeze_batch_norm, recalibrate_batch_norm
from snojoe.training.checkpoint import read_checkpoint, write_checkpoint
from snojoe.training.loader import TrainSet, train_loader
from snojoe.training.validation import predict_logits

CHECKPOINT_EVERY_S = 15.0
# Steps between two looks at the loss on an accelerator, which has to wait for each.
_CHECK_LOSS_EVERY = 50


@dataclass
class Record:
    """What was measured while training.

    Attributes
    ----------
    history : list of dict
        One per epoch: ``epoch`` (from 1), ``train_loss``, ``val_loss``, ``val_map`` (fraction).
    sigmas : list of dict
        One per epoch (0 is before the first) and weight: ``epoch``, ``weight``, ``layer``,
        ``normalized``, ``sigma`` (of the weight that the network computes with) and ``raw_sigma``
        (of the weight that is trained); both of the reshaped kernel, exact.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    sigmas: list[dict[str, Any]] = field(default_factory=list)


def train_classifier(
    model: Classifier,
    train: TrainSet,
    val: Shards,
    *,
    params: Train,
    spectral_norm: SpectralNormParams,
    sn_layers: int,
    checkpoint: Path | None = None,
    say: Callable[[str], None] = print,
) -> Record:
    """Train in place; afterwards the model is in eval mode, its weights still parametrised.

    Parameters
    ----------
    model : Classifier
        With the initial weights.
    train, val : TrainSet, Shards
        ``train.seed`` decides order and augmentation.
    params, spectral_norm : Train, SpectralNormParams
        The sections of the parameters.
    sn_layers : int
        Number of layers that are spectrally normalised (eq. 13).
    checkpoint : Path, optional
        File to resume from where it exists, and to write at the end of epochs. The caller names
        it after everything that decides the result, and deletes it.
    say : callable
        Receives one line per epoch.

    Raises
    ------
    SnojoeError
        If the loss stops being finite, or a batch cannot be shared evenly among the processes.
    """
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else torchrun's processes do not meet
        mixed_precision="bf16" if _has_bf16() else "no",
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
    )
    _check_shares(min(params.batch_size, len(train)), accelerator.num_processes, params)
    if not accelerator.is_main_process:
        say = _say_nothing
    several_gpus = accelerator.num_processes > 1 and accelerator.device.type == "cuda"
    if several_gpus and spectral_norm.batch_norm_bound is None:
        # The statistics of the whole batch. PyTorch has nothing like it for CPUs.
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    normaliser = apply_spectral_norm(
        model,
        sn_layers,
        bound=spectral_norm.bound,
        coefficient=spectral_norm.coefficient,
        norm=spectral_norm.norm,
        example_input=torch.zeros(1, 3, val.image_size, val.image_size),
    )
    bounded = spectral_norm.batch_norm_bound is not None and sn_layers > 0
    if spectral_norm.batch_norm_bound is not None:
        apply_spectral_batch_norm(model, sn_layers, spectral_norm.batch_norm_bound)
    model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = train_loader(train, params.batch_size, params.workers)
    optimizer = torch.optim.Adam(
        [
            {"params": list(model.trunk.parameters()), "lr": params.lr * params.trunk_lr_factor},
            {"params": list(model.head.parameters()), "lr": params.lr},
        ],
        betas=(0.9, 0.999),
        fused=True,
    )
    schedule = _schedule(optimizer, params, steps=params.epochs * len(loader))

    record = Record()
    state = read_checkpoint(checkpoint, say) if checkpoint else None
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        record = Record(state["history"], state["sigmas"])
        say(f"resuming after epoch {len(record.history)} of {params.epochs}")
    elif len(normaliser) or bounded or params.freeze_after_epoch == 0:
        # The stored statistics are those of the weights before normalisation. Momentum forgets
        # them too slowly: a variance that is 1000 times too large needs 65 steps.
        train.epoch = 0
        pixels = (normalise(batch.to(accelerator.device)) for batch, _ in loader)
        recalibrate_batch_norm(model, pixels)

    if not record.sigmas:
        record.sigmas += _sigmas(model, epoch=0)
    if accelerator.num_processes > 1:  # of 1x1 convolutions, which are channels-last either way
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    network, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    check_every = 1 if accelerator.device.type == "cpu" else _CHECK_LOSS_EVERY
    started = saved = time.monotonic()
    resumed_at = len(record.history)
    for epoch in range(resumed_at, params.epochs):
        train.epoch = epoch
        network.train()
        if params.freeze_after_epoch is not None and epoch >= params.freeze_after_epoch:
            freeze_batch_norm(model)
        total = torch.zeros((), device=accelerator.device)
        batches = progress(
            loader, total=len(loader), desc=f"epoch {epoch + 1}/{params.epochs}", unit="step"
        )
        for step, (pixels, labels) in enumerate(batches, start=1):
            optimizer.zero_grad()
            parts = (each.tensor_split(params.gradient_accumulation) for each in (pixels, labels))
            for images, targets in zip(*parts, strict=True):
                with accelerator.autocast():
                    logits = network(normalise(images))
                loss = bce(logits.float(), targets) * (len(images) / len(pixels))
                accelerator.backward(loss)
                total += loss.detach()
            if step % check_every == 0 or step == len(loader):
                _check_finite(total, f"epoch {epoch + 1}", step, check_every)
            optimizer.step()
            normaliser.power_iteration()
            schedule.step()
        train_loss = float(accelerator.reduce(total, "mean")) / len(loader)
        row = {"epoch": epoch + 1, "train_loss": train_loss, **_validate(model, val)}
        record.history.append(row)
        record.sigmas += _sigmas(model, epoch + 1)

        left = params.epochs - epoch - 1
        seconds_each = (time.monotonic() - started) / (epoch + 1 - resumed_at)
        say(_line(row, params.epochs, left * seconds_each))
        due = left and time.monotonic() - saved > CHECKPOINT_EVERY_S
        if checkpoint is not None and due and accelerator.is_main_process:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "history": record.history,
                "sigmas": record.sigmas,
            }
            write_checkpoint(checkpoint, state)
            saved = time.monotonic()
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # in bf16 for training alone
    model.eval()
    return record


def _check_shares(batch: int, processes: int, params: Train) -> None:
    """Whether a batch can be shared, and each share be split, with two images left in each part."""
    if batch % processes:
        raise SnojoeError(
            f"train.batch_size: expected a multiple of the {processes} processes; got {batch}"
        )
    share, parts = batch // processes, params.gradient_accumulation
    if share < 2 * parts:
        raise SnojoeError(
            f"train.gradient_accumulation: expected at most {max(share // 2, 1)}, since BatchNorm "
            f"needs two images and a process has {share} of a batch; got {parts}"
        )


def _check_finite(total: Tensor, epoch: str, step: int, every: int) -> None:
    """A sum of losses that is no longer finite stays so: no step needs a look of its own."""
    if not torch.isfinite(total):
        first = (step - 1) // every * every + 1
        steps = f"step {step}" if first == step else f"steps {first} to {step}"
        raise SnojoeError(
            f"{epoch}, {steps}: the loss is {float(total)}; expected a finite number "
            "(train.lr may be too high)"
        )


def _say_nothing(line: str) -> None:
    """What all processes would say, the first says."""


def fingerprint(*parts: Any) -> str:
    """Name for everything that decides a result: parameters, files, and the code itself.

    Parameters
    ----------
    *parts : Path or anything that JSON holds
        Of a folder or file the contents count (its ``SHA256SUMS`` in their place, where a folder
        has one: who reads the files compares them with it), of anything else the value. The source
        of every module of this package that is loaded, and torch's version, always count.
    """
    digest = hashlib.sha256(torch.__version__.encode())
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "snojoe"]
    sources = {Path(file) for module in modules if (file := getattr(module, "__file__", None))}
    for part in [*sorted(sources), *parts]:
        if isinstance(part, Path):
            listed = (part / SUMS).exists()
            files = (
                [part / SUMS] if listed else sorted(part.rglob("*")) if part.is_dir() else [part]
            )
            for path in filter(Path.is_file, files):
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _sigmas(model: Classifier, epoch: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "weight": each.name,
            "layer": each.layer,
            "normalized": each.normalized,
            "sigma": each.sigma,
            "raw_sigma": each.raw_sigma,
        }
        for each in spectral_norms(model)
    ]


def _validate(model: Classifier, val: Shards) -> dict[str, float]:
    logits, labels = predict_logits(model, val)
    if labels is None:
        raise SnojoeError(f"{val.folder}: expected labelled images")
    loss = bce(torch.from_numpy(logits), torch.from_numpy(labels).float())
    if not torch.isfinite(loss):
        raise SnojoeError(f"the loss on val is {float(loss)}; train.lr may be too high")
    return {"val_loss": float(loss), "val_map": mean_average_precision(labels, logits)}


def _line(row: dict[str, float], epochs: int, seconds_left: float) -> str:
    left = f", {_duration(seconds_left)} left" if row["epoch"] < epochs else ""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}: loss {row['train_loss']:.4f}, "
        f"val loss {row['val_loss']:.4f}, val mAP {row['val_map']:.2%}{left}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _schedule(
    optimizer: torch.optim.Optimizer, params: Train, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if params.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=peaks, total_steps=steps, cycle_momentum=False
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
