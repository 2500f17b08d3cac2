"""One pass over the images gives everything that any score needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from torch import Tensor

from snojoe.data.loader import normalise
from snojoe.data.shards import Batch, Shards
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


def write_outputs(
    models: Sequence[Classifier], shards: Shards, targets: Sequence[Path], *, batch_size: int
) -> None:
    """Write what each model says of every image; the images are decoded once for all models.

    Each target folder receives ``logits.npy`` (n, K), ``features.npy`` (n, C) and ``hidden.npy``
    (n, 1000), float32, ``ids.npy`` (n,) and, where the images are labelled, ``labels.npy`` (n, K)
    uint8. Memory does not grow with the number of images.
    """
    ids: list[str] = []
    labels: list[np.ndarray] = []
    files = [OutputFiles(target, len(shards)) for target in targets]
    for images, batch in images_on_device(models, shards, batch_size):
        for model, arrays in zip(models, files, strict=True):
            with torch.inference_mode():
                outputs = model.outputs(images)
            for name, values in outputs._asdict().items():
                arrays.write(name, values, start=len(ids))
        ids += batch.ids
        if batch.labels is not None:
            labels.append(batch.labels)
    for target in targets:
        np.save(target / "ids.npy", np.array(ids))
        if labels:
            np.save(target / "labels.npy", np.concatenate(labels))


def images_on_device(
    models: Sequence[Classifier], shards: Shards, batch_size: int
) -> Iterator[tuple[Tensor, Batch]]:
    """Put the models on the device, in eval mode, and stream normalised images."""
    device = default_device()
    for model in models:
        model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = -(-len(shards) // batch_size)
    for batch in progress(
        shards.batches(batch_size), total=batches, desc=shards.folder.name, unit="batch"
    ):
        yield normalise(torch.from_numpy(batch.pixels).to(device)), batch


class OutputFiles:
    """Arrays on disk, one row for each image, in a folder that is made."""

    def __init__(self, folder: Path, rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rows = folder, rows

    def write(self, name: str, values: Tensor, *, start: int) -> None:
        """Append rows of float32, of which `start` are there; the first call makes the file.

        Not through a memory map: a full disk would end that in a bus error.
        """
        with (self.folder / f"{name}.npy").open("ab" if start else "wb") as file:
            if not start:
                shape = (self.rows, values.shape[1])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(values.float().cpu().numpy(), "<f4").data)
