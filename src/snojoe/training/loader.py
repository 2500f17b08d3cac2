"""Batches for the network: augmented training crops, and the pixels of the protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import RandomResizedCrop

from snojoe.data.images import decode
from snojoe.data.shards import Shards
from snojoe.model.preprocessing import Interpolation
from snojoe.support.errors import SnojoeError

# As many decoded training images are kept as fit into this many bytes, then crops of the epoch.
_KEPT_BYTES = 2**30

_RATIO = (3 / 4, 4 / 3)  # the crop's width by its height, torchvision's default


class TrainTransform:
    """The protocol's augmentation: a flip, then RandomResizedCrop from the original's pixels.

    It draws what torchvision's two transforms draw of the same seed. The resize is PyTorch's
    instead of PIL's: a third of the time, and at most one grey level apart.

    Parameters
    ----------
    size : int
        Edge of the crop after resizing.
    scale : (float, float)
        Area of the crop as a share of the image's. The protocol has (0.5, 2.0): what does not fit
        is drawn again, and after ten draws the whole image is taken (14% of the crops at 4:3).
    flip : float
        Probability of a horizontal flip.
    interpolation : "bilinear" or "bicubic"
        Of the resize; the protocol's is bilinear.
    """

    def __init__(
        self,
        size: int,
        scale: tuple[float, float],
        flip: float,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        self.size = size
        self.scale = scale
        self.flip = flip
        self.interpolation = interpolation

    def __call__(self, pixels: np.ndarray, seed: int) -> Tensor:
        """RGB image (H, W, 3) -> (size, size, 3), both uint8; the same seed gives the same crop."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        # torch.manual_seed would do so for every kind of device: it takes longer than the crop.
        torch.default_generator.manual_seed(seed)
        flipped = bool(torch.rand(1) < self.flip)
        top, left, height, width = RandomResizedCrop.get_params(image, self.scale, _RATIO)
        if flipped:  # in the flipped image the crop starts there; the small crop flips faster
            left = image.shape[2] - left - width
        crop = image[None, :, top : top + height, left : left + width]
        edges = (self.size, self.size)
        crop = F.interpolate(crop, edges, mode=self.interpolation, antialias=True)[0]
        crop = crop.permute(1, 2, 0)
        return crop.flip(1) if flipped else crop


class Crops:
    """Augmented crops of encoded images, which stay on disk; what fits is kept decoded.

    A crop depends on (seed, epoch, index) alone: neither the number of workers or processes nor a
    resumption changes it. BatchNorm's statistics are measured on those that an epoch has learnt
    from, and pseudo-OOD images made of them: what fits is kept until the next epoch.
    """

    def __init__(self, shards: Shards, transform: TrainTransform, seed: int) -> None:
        self.transform = transform
        self.seed = seed
        self.encoded = shards.encoded()
        self.images: list[np.ndarray] = []
        left = _KEPT_BYTES
        for index in range(len(self.encoded)):
            image = _pixels(self.encoded[index])
            left -= image.nbytes
            if left < 0:
                break
            self.images.append(image)
        self.made: dict[int, Tensor] = {}
        self.made_in = 0
        self.room = max(0, left) // (3 * transform.size**2)

    def crop(self, epoch: int, index: int) -> Tensor:
        """(size, size, 3) uint8, not to be changed."""
        if epoch != self.made_in:
            self.made, self.made_in = {}, epoch
        crop = self.made.get(index)
        if crop is None:
            crop = self._crop(epoch, index)
            if len(self.made) < self.room:
                self.made[index] = crop
        return crop

    def _crop(self, epoch: int, index: int) -> Tensor:
        kept = index < len(self.images)
        image = self.images[index] if kept else _pixels(self.encoded[index])
        seed = np.random.SeedSequence((self.seed, epoch, index)).generate_state(1)[0]
        return self.transform(image, int(seed))


class InEpochs(Dataset[Any], ABC):
    """What is seen in epochs: ``dataset[epoch * n + index]`` of n images, `epoch` being the next.

    Attributes
    ----------
    seed : int
        Of the order.
    epoch : int
    """

    seed: int
    epoch: int

    @abstractmethod
    def __len__(self) -> int:
        """Return n."""


class TrainSet(Crops, InEpochs):
    """The train split: `Crops` and their labels."""

    def __init__(self, folder: Path, transform: TrainTransform, seed: int) -> None:
        shards = Shards(folder)
        labels = shards.labels()
        if labels is None:
            raise SnojoeError(f"{folder}: expected labelled images")
        self.labels = torch.from_numpy(labels).float()
        self.epoch = 0
        super().__init__(shards, transform, seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """Crop and labels of a position, epoch * n + index: workers outlive the epoch."""
        epoch, index = divmod(position, len(self))
        return self.crop(epoch, index), self.labels[index]


def _pixels(content: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of an encoded image; a copy, since PIL's is read-only."""
    return np.array(decode(content))


class EpochSampler(Sampler[int]):
    """Positions of an epoch in an order that depends on (seed, epoch) alone."""

    def __init__(self, dataset: InEpochs) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Any:
        epoch, n = self.dataset.epoch, len(self.dataset)
        key = np.random.SeedSequence((self.dataset.seed, epoch))
        return iter((epoch * n + np.random.default_rng(key).permutation(n)).tolist())


def train_loader(dataset: InEpochs, batch_size: int, workers: int) -> DataLoader[Any]:
    """Shuffled batches, of a `TrainSet` (uint8 (n, H, W, 3), float32 (n, K)).

    The last, smaller one is dropped.

    A batch of one would have no variance for BatchNorm to divide by.
    """
    return DataLoader(
        dataset,
        batch_size=min(batch_size, len(dataset)),
        sampler=EpochSampler(dataset),
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
    )
