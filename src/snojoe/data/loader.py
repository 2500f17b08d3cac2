"""Batches for the network: augmented training crops, and the pixels of the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from snojoe.data.images import MEAN, STD, decode
from snojoe.data.shards import Shards
from snojoe.errors import SnojoeError

# Decoded training images are kept where they fit into this many bytes.
_DECODED_BYTES = 256 * 2**20


def normalise(pixels: Tensor) -> Tensor:
    """uint8 images (n, H, W, 3) to float32 (n, 3, H, W), channels last, ImageNet statistics."""
    mean = torch.tensor(MEAN, device=pixels.device) * 255
    std = torch.tensor(STD, device=pixels.device) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


class TrainTransform:
    """The protocol's augmentation: a flip, then RandomResizedCrop from the original's pixels.

    Parameters
    ----------
    size : int
        Edge of the crop after resizing.
    scale : (float, float)
        Area of the crop as a share of the image's. The protocol has (0.5, 2.0): what does not fit
        is drawn again, and after ten draws the whole image is taken (14% of the crops at 4:3).
    flip : float
        Probability of a horizontal flip.
    """

    def __init__(self, size: int, scale: tuple[float, float], flip: float) -> None:
        self.transform = transforms.Compose(
            [transforms.RandomHorizontalFlip(flip), transforms.RandomResizedCrop(size, scale)]
        )

    def __call__(self, image: Image.Image, seed: int) -> np.ndarray:
        """RGB image -> (size, size, 3) uint8; the same seed gives the same crop."""
        torch.manual_seed(seed)
        return np.asarray(self.transform(image))


class TrainSet(Dataset[tuple[Tensor, Tensor]]):
    """The train split, held in memory.

    The augmentation of an image depends on (seed, epoch, index) alone: neither the number of
    workers or processes nor a resumption changes it.
    """

    def __init__(self, folder: Path, transform: TrainTransform, seed: int) -> None:
        shards = Shards(folder)
        labels = shards.labels()
        if shards.content != "image" or labels is None:
            raise SnojoeError(f"{folder}: expected labelled original images")
        self.labels = torch.from_numpy(labels).float()
        self.transform = transform
        self.seed = seed
        self.epoch = 0
        encoded = shards.table(["image"])["image"].combine_chunks()
        decoded_bytes = shards.image_size**2 * 3 * len(encoded)
        self.images: Any = encoded
        if decoded_bytes < _DECODED_BYTES:
            self.images = [decode(content.as_py()) for content in encoded]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        if not isinstance(image, Image.Image):
            image = decode(image.as_py())
        seed = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1)[0]
        # A copy: PIL's buffer is read-only.
        pixels = torch.from_numpy(np.array(self.transform(image, int(seed))))
        return pixels, self.labels[index]


class EpochSampler(Sampler[int]):
    """A permutation that depends on (seed, epoch) alone."""

    def __init__(self, dataset: TrainSet) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Any:
        key = np.random.SeedSequence((self.dataset.seed, self.dataset.epoch))
        return iter(np.random.default_rng(key).permutation(len(self.dataset)).tolist())


def train_loader(dataset: TrainSet, batch_size: int, workers: int) -> DataLoader[Any]:
    """Shuffled batches (uint8 (n, H, W, 3), float32 (n, K)); the last, smaller one is dropped.

    A batch of one would have no variance for BatchNorm to divide by.
    """
    return DataLoader(
        dataset,
        batch_size=min(batch_size, len(dataset)),
        sampler=EpochSampler(dataset),
        num_workers=workers,
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
    )
