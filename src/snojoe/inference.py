"""One pass over the images gives everything that any score needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from snojoe.data.loader import normalise
from snojoe.data.shards import Shards
from snojoe.models import Classifier
from snojoe.progress import progress


def default_device() -> torch.device:
    """The accelerator of this machine, or its CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


@torch.inference_mode()
def predict_logits(
    model: Classifier, shards: Shards, batch_size: int = 128
) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits (n, K) float32 and labels (n, K) uint8 of all images; the model is left in eval."""
    model.eval()
    device = next(model.parameters()).device
    logits, labels = [], []
    for batch in shards.batches(batch_size):
        pixels = torch.from_numpy(batch.pixels).to(device)
        logits.append(model(normalise(pixels)).float().cpu().numpy())
        labels.append(batch.labels)
    known = [each for each in labels if each is not None]
    return np.concatenate(logits), np.concatenate(known) if known else None


@torch.inference_mode()
def write_outputs(
    models: Sequence[Classifier], shards: Shards, targets: Sequence[Path], *, batch_size: int
) -> None:
    """Write what each model says of every image; the images are decoded once for all models.

    Each target folder receives ``logits.npy`` (n, K), ``features.npy`` (n, C) and ``hidden.npy``
    (n, 1000), float32, ``ids.npy`` (n,) and, where the images are labelled, ``labels.npy`` (n, K)
    uint8. Memory does not grow with the number of images.
    """
    device = default_device()
    for model in models:
        model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    arrays: list[dict[str, np.memmap]] = [{} for _ in models]
    for target in targets:
        target.mkdir(parents=True, exist_ok=True)
    ids: list[str] = []
    labels: list[np.ndarray] = []
    total = len(shards)
    bar = progress(
        shards.batches(batch_size),
        total=-(-total // batch_size),
        desc=shards.folder.name,
        unit="batch",
    )
    for batch in bar:
        images = normalise(torch.from_numpy(batch.pixels).to(device))
        rows = slice(len(ids), len(ids) + len(batch.ids))
        for model, files, target in zip(models, arrays, targets, strict=True):
            for name, values in model.outputs(images)._asdict().items():
                if name not in files:
                    shape = (total, values.shape[1])
                    files[name] = open_memmap(
                        target / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape
                    )
                files[name][rows] = values.float().cpu().numpy()
        ids += batch.ids
        if batch.labels is not None:
            labels.append(batch.labels)
    for target in targets:
        np.save(target / "ids.npy", np.array(ids))
        if labels:
            np.save(target / "labels.npy", np.concatenate(labels))
