"""One pass over the images gives everything that any score needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

from snojoe.data.shards import Batch, Shards
from snojoe.inference.perturbation import Noise, outputs_with_noise
from snojoe.model.classifier import Classifier
from snojoe.model.pixels import default_device
from snojoe.support.processes import in_turns, is_first_process, process_count, process_number
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

    Of several processes each takes its share of the batches, which are those of one process, and
    the first writes.

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
    own = (
        _batch_outputs(models, batch, noises or [{}] * len(models), device)
        for batch in shards.batches(batch_size, process_number(), process_count())
    )
    total = shards.batch_count(batch_size)
    ids: list[str] = []
    labels: list[np.ndarray] = []
    files = [OutputFiles(target, len(shards)) for target in targets]
    for outputs in progress(in_turns(own, total), total, shards.folder.name, unit="batch"):
        for arrays, of_model in zip(files, outputs.arrays, strict=True):
            for name, values in of_model.items():
                arrays.write(name, values, start=len(ids))
        ids += outputs.ids
        if outputs.labels is not None:
            labels.append(outputs.labels)
    for target in targets if is_first_process() else ():
        np.save(target / "ids.npy", np.array(ids))
        if labels:
            np.save(target / "labels.npy", np.concatenate(labels))


def write_image_outputs(
    models: Sequence[Classifier],
    images: NDArray[np.uint8],
    targets: Sequence[Path],
    *,
    batch_size: int,
) -> None:
    """The same of (n, H, W, 3) images in memory, without ids and labels."""
    device = default_device()
    for model in models:
        model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    files = [OutputFiles(target, len(images)) for target in targets]
    starts = range(0, len(images), batch_size)
    batches = (
        Batch([], images[start : start + batch_size], None)
        for start in starts[process_number() :: process_count()]
    )
    own = (_batch_outputs(models, batch, [{}] * len(models), device) for batch in batches)
    for outputs, start in zip(in_turns(own, len(starts)), starts, strict=is_first_process()):
        for arrays, of_model in zip(files, outputs.arrays, strict=True):
            for name, values in of_model.items():
                arrays.write(name, values, start=start)


class _BatchOutputs(NamedTuple):
    """Of a batch: for each model, arrays by name, (n, ...) float32."""

    ids: list[str]
    labels: np.ndarray | None
    arrays: list[dict[str, NDArray[np.float32]]]


def _batch_outputs(
    models: Sequence[Classifier],
    batch: Batch,
    noises: Sequence[Mapping[str, Noise]],
    device: torch.device,
) -> _BatchOutputs:
    images = models[0].normalise(torch.from_numpy(batch.pixels).to(device))
    arrays = []
    for model, noise in zip(models, noises, strict=True):
        outputs, noisy = outputs_with_noise(model, images, noise)
        tensors = outputs._asdict()
        for score, perturbed in noisy.items():
            field = noise[score].field
            tensors[f"{score}_{field}"] = getattr(perturbed, field)
        arrays.append({name: _array(values) for name, values in tensors.items()})
    return _BatchOutputs(batch.ids, batch.labels, arrays)


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.float().cpu().numpy(), "<f4")


class OutputFiles:
    """Arrays on disk, one row for each image, in a folder that the first one makes."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows

    def write(self, name: str, values: NDArray[np.float32], *, start: int) -> None:
        """Append rows, of which `start` are there; the first call makes the file.

        Not through a memory map: a full disk would end that in a bus error.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.npy").open("ab" if start else "wb") as file:
            if not start:
                shape = (self.rows, values.shape[1])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                write_array_header_1_0(file, header)
            file.write(values.data)
