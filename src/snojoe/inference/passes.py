"""One pass over the images gives everything that any score needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from torch import Tensor

from snojoe.data.shards import Shards
from snojoe.inference.perturbation import Noise, outputs_with_noise
from snojoe.model.classifier import Classifier
from snojoe.model.pixels import default_device
from snojoe.support.progress import progress


def write_outputs(
    models: Sequence[Classifier],
    shards: Shards,
    targets: Sequence[Path],
    *,
    batch_size: int,
    noises: Sequence[Mapping[str, Noise]] = (),
) -> None:
    """Write what each model says of every image; the images are decoded once for all models.

    Each target folder receives ``logits.npy`` (n, K), ``features.npy`` (n, C) and ``hidden.npy``
    (n, 1000), float32, ``ids.npy`` (n,) and, where the images are labelled, ``labels.npy`` (n, K)
    uint8. Memory does not grow with the number of images.

    Parameters
    ----------
    models
        Of one preprocessing. Put on the accelerator, if there is one, and in eval mode.
    noises
        For each model the noise by score; nothing means no noise. ``<score>_<field>.npy``, float32
        too, is what that score reads of the images with its noise.
    """
    device = default_device()
    for model in models:
        model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ids: list[str] = []
    labels: list[np.ndarray] = []
    files = [OutputFiles(target, len(shards)) for target in targets]
    for batch in progress(
        shards.batches(batch_size),
        total=-(-len(shards) // batch_size),
        desc=shards.folder.name,
        unit="batch",
    ):
        images = models[0].normalise(torch.from_numpy(batch.pixels).to(device))
        for model, arrays, noise in zip(models, files, noises or [{}] * len(models), strict=True):
            outputs, noisy = outputs_with_noise(model, images, noise)
            for name, values in outputs._asdict().items():
                arrays.write(name, values, start=len(ids))
            for score, perturbed in noisy.items():
                field = noise[score].field
                arrays.write(f"{score}_{field}", getattr(perturbed, field), start=len(ids))
        ids += batch.ids
        if batch.labels is not None:
            labels.append(batch.labels)
    for target in targets:
        np.save(target / "ids.npy", np.array(ids))
        if labels:
            np.save(target / "labels.npy", np.concatenate(labels))


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
