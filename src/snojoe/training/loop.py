"""Training: a loss on logits, Adam with two rates, SN, BatchNorm and outliers as asked."""

from __future__ import annotations

import time
import warnings
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from snojoe.data.shards import Shards
from snojoe.model.classifier import Classifier
from snojoe.params import SpectralNormParams, Train
from snojoe.spectral_norm import SpectralNorm, apply_spectral_norm
from snojoe.spectral_norm.batch_norm import apply_spectral_batch_norm
from snojoe.support.errors import SnojoeError
from snojoe.support.processes import is_first_process, say
from snojoe.support.progress import progress
from snojoe.training.batch_norm import freeze_batch_norm, recalibrate_batch_norm, share_batch_norm
from snojoe.training.checkpoint import read_checkpoint, write_checkpoint
from snojoe.training.loader import InEpochs, train_loader
from snojoe.training.losses import LOSSES, towards_none
from snojoe.training.optimizer import build_optimizer, build_schedule
from snojoe.training.outliers import WEIGHT
from snojoe.training.processes import check_shares, start_accelerator
from snojoe.training.record import Record, epoch_line
from snojoe.training.validation import validate

CHECKPOINT_EVERY_S = 15.0
# Steps between two looks at the loss on an accelerator, which has to wait for each.
_CHECK_LOSS_EVERY = 50


def train_classifier(
    model: Classifier,
    train: InEpochs,
    val: Shards,
    *,
    params: Train,
    spectral_norm: SpectralNormParams,
    sn_layers: int,
    outliers: InEpochs | None = None,
    checkpoint: Path | None = None,
) -> Record:
    """Train in place; afterwards the model is in eval mode, its weights still normalised.

    Parameters
    ----------
    model : Classifier
        With the initial weights.
    train, val : InEpochs, Shards
        `train` gives pixels and labels, as a `TrainSet` does; its seed decides order and
        augmentation.
    params, spectral_norm : Train, SpectralNormParams
        The sections of the parameters.
    sn_layers : int
        Number of layers that are spectrally normalised (eq. 13).
    outliers : InEpochs, optional
        Images that show none of the labels, as many as of `train`.
    checkpoint : Path, optional
        File to resume from where it exists, and to write at the end of epochs. The caller names
        it after everything that decides the result, and deletes it.

    Raises
    ------
    SnojoeError
        If the loss stops being finite, or a batch cannot be shared evenly among the processes.
    """
    accelerator = start_accelerator()
    batch_size = min(params.batch_size, len(train))
    check_shares(batch_size, accelerator.num_processes, params.gradient_accumulation)
    normaliser = _normalise(model, spectral_norm, sn_layers, val.image_size, accelerator)
    training = _Training(model, train, outliers, params, normaliser, accelerator)
    if not (checkpoint and training.resume(checkpoint)):
        bounded = spectral_norm.batch_norm_bound is not None and sn_layers > 0
        training.begin(normalised=bounded or len(normaliser) > 0)
    training.run(val, checkpoint)
    return training.record


def _normalise(
    model: Classifier,
    params: SpectralNormParams,
    sn_layers: int,
    image_size: int,
    accelerator: Accelerator,
) -> SpectralNorm:
    """Put SN on the weights and, where it is asked for, a bound on every BatchNorm."""
    several_gpus = accelerator.num_processes > 1 and accelerator.device.type == "cuda"
    if several_gpus and params.batch_norm_bound is None:
        # The statistics of the whole batch. PyTorch has nothing like it for CPUs.
        share_batch_norm(model)
    try:
        normaliser = apply_spectral_norm(
            model,
            sn_layers,
            bound=params.bound,
            coefficient=params.coefficient,
            norm=params.norm,
            example_input=torch.zeros(1, 3, image_size, image_size),
        )
        if params.batch_norm_bound is not None:
            apply_spectral_batch_norm(model, sn_layers, params.batch_norm_bound)
    except ValueError as error:  # a network of timm's may have layers of its own
        raise SnojoeError(f"spectral_norm: {error}") from None
    return normaliser


class _Training:
    """A model and all that trains it: first `resume` or `begin`, then `run`."""

    def __init__(
        self,
        model: Classifier,
        train: InEpochs,
        outliers: InEpochs | None,
        params: Train,
        normaliser: SpectralNorm,
        accelerator: Accelerator,
    ) -> None:
        model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trunk_stays = params.trunk_lr_factor == 0
        if self.trunk_stays:  # half of a step's time would go into gradients of nothing
            model.trunk.requires_grad_(False)
        self.model = model
        self.network: torch.nn.Module = model  # the same as `run` wraps it
        self.train = train
        self.outliers = outliers
        self.params = params
        self.normaliser = normaliser
        self.accelerator = accelerator
        self.loader = train_loader(train, params.batch_size, params.workers)
        self.whole = self.loader
        self.outlier_loader = (
            train_loader(outliers, params.batch_size, params.workers) if outliers else None
        )
        self.optimizer = build_optimizer(model, params)
        steps = params.epochs * len(self.loader)
        self.schedule = build_schedule(self.optimizer, params, steps)
        self.record = Record()

    def state(self) -> dict[str, Any]:
        """All that later epochs depend on; order and augmentation follow from their numbers."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.record.history,
            "sigmas": self.record.sigmas,
        }

    def resume(self, checkpoint: Path) -> bool:
        """Take up the `state` of a checkpoint; False where there is none."""
        state = read_checkpoint(checkpoint)
        if state is None:
            return False
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.record = Record(state["history"], state["sigmas"])
        say(f"resuming after epoch {self.record.epochs} of {self.params.epochs}")
        return True

    def begin(self, normalised: bool) -> None:
        """Measure sigma before the first epoch, and BatchNorm's statistics where SN changed them.

        The stored ones are those of the weights before normalisation. Momentum forgets them too
        slowly: a variance that is 1000 times too large needs 65 steps.
        """
        if normalised:
            self._measure_batch_norm(0, self.model)
        elif self._frozen(0):
            self._measure_batch_norm(0, self._learning)
        self.record.add_sigmas(self.model)

    def run(self, val: Shards, checkpoint: Path | None) -> None:
        """Train and measure every epoch that is not in `record` yet."""
        self._wrap()
        started = saved = time.monotonic()
        first, epochs = self.record.epochs, self.params.epochs
        for epoch in range(first, epochs):
            train_loss = self._train_epoch(epoch)
            if not self._frozen(epoch):
                self._measure_batch_norm(epoch, self._learning)
            row = {"epoch": epoch + 1, "train_loss": train_loss, **validate(self.model, val)}
            self.record.history.append(row)
            self.record.add_sigmas(self.model)

            left = epochs - epoch - 1
            seconds_each = (time.monotonic() - started) / (epoch + 1 - first)
            say(epoch_line(row, epochs, left * seconds_each))
            due = left and time.monotonic() - saved > CHECKPOINT_EVERY_S
            if checkpoint and due and is_first_process():
                write_checkpoint(checkpoint, self.state())
                saved = time.monotonic()
        # In bf16 for training alone.
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        self.model.eval()

    def _frozen(self, epoch: int) -> bool:
        """Whether BatchNorm uses its stored statistics in an epoch, numbered from 0."""
        freeze_after = self.params.freeze_after_epoch
        return freeze_after is not None and epoch >= freeze_after

    @property
    def _learning(self) -> torch.nn.Module:
        """What is trained: a trunk that learns nothing keeps its BatchNorm's statistics, too."""
        return self.model.head if self.trunk_stays else self.model

    def _measure_batch_norm(self, epoch: int, within: torch.nn.Module) -> None:
        """Store BatchNorm's statistics of the weights as they are, over an epoch's crops.

        What is evaluated or frozen then belongs to its weights. The moving average of training
        does not: it is one of past W / sigma, which lag differently than past W do.
        """
        self.train.epoch = epoch
        device = self.accelerator.device
        batches = (self.model.normalise(pixels.to(device)) for pixels, _ in self.whole)
        recalibrate_batch_norm(self.model, batches, within)

    def _wrap(self) -> None:
        """Have processes share batches and gradients; what a checkpoint restores is not wrapped."""
        if self.accelerator.num_processes > 1:  # 1x1 convolutions: channels-last either way
            warnings.filterwarnings(
                "ignore", message="Grad strides do not match bucket view strides"
            )
        self.network, self.optimizer, self.loader = self.accelerator.prepare(
            self.model, self.optimizer, self.loader
        )
        if self.outlier_loader is not None:
            self.outlier_loader = self.accelerator.prepare(self.outlier_loader)
        if self.accelerator.num_processes == 1:  # one set of workers
            self.whole = self.loader

    def _train_epoch(self, epoch: int) -> float:
        """Take every step of an epoch, numbered from 0; returns the mean loss, with outliers'."""
        self.train.epoch = epoch
        if self.outliers is not None:
            self.outliers.epoch = epoch
        self.network.train()
        if self._frozen(epoch):
            freeze_batch_norm(self.model)
        if self.trunk_stays:
            self.model.trunk.eval()
        device, steps = self.accelerator.device, len(self.loader)
        check_every = 1 if device.type == "cpu" else _CHECK_LOSS_EVERY
        total = torch.zeros((), device=device)
        name = f"epoch {epoch + 1}/{self.params.epochs}"
        batches = progress(self.loader, total=steps, desc=name, unit="step")
        outliers = self.outlier_loader or repeat(None, steps)
        pairs = zip(batches, outliers, strict=True)
        for step, ((pixels, labels), others) in enumerate(pairs, start=1):
            self._backward(pixels, labels, others, total)
            if step % check_every == 0 or step == steps:
                _check_finite(total, f"epoch {epoch + 1}", step, check_every)
            self.optimizer.step()
            self.normaliser.power_iteration()
            self.schedule.step()
        self.normaliser.refresh()
        return float(self.accelerator.reduce(total, "mean")) / steps

    def _backward(
        self, pixels: Tensor, labels: Tensor, outliers: Tensor | None, total: Tensor
    ) -> None:
        """Gradients of a batch's mean loss, which is added to `total`; in parts, for less memory.

        Outliers are in one batch with labelled images, as in Hendrycks et al.'s code, so that a
        BatchNorm that is not frozen takes the statistics of both.

        Parameters
        ----------
        pixels : (n, H, W, 3) uint8
        labels : (n, K) float32
        outliers : (n, H, W, 3) uint8 or None
        total : () float32
        """
        self.optimizer.zero_grad()
        parts: list[Any] = [
            repeat(None) if each is None else each.tensor_split(self.params.gradient_accumulation)
            for each in (pixels, labels, outliers)
        ]
        for images, targets, others in zip(*parts, strict=False):
            seen = images if others is None else torch.cat([images, others])
            with self.accelerator.autocast():
                logits = self.network(self.model.normalise(seen))
            loss = self._loss(logits.float(), targets) * (len(images) / len(pixels))
            self.accelerator.backward(loss)
            total += loss.detach()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of (n, K) labels and (n, K) logits, or (2 n, K) with those of outliers behind them."""
        loss = LOSSES[self.params.loss]
        if len(logits) == len(labels):
            return loss(logits, labels)
        known, others = logits.tensor_split(2)
        return loss(known, labels) + WEIGHT * towards_none(others)


def _check_finite(total: Tensor, epoch: str, step: int, every: int) -> None:
    """A sum of losses that is no longer finite stays so: no step needs a look of its own."""
    if not torch.isfinite(total):
        first = (step - 1) // every * every + 1
        steps = f"step {step}" if first == step else f"steps {first} to {step}"
        raise SnojoeError(
            f"{epoch}, {steps}: the loss is {float(total)}; expected a finite number "
            "(train.lr may be too high)"
        )
