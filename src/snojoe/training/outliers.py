"""Outlier exposure for many labels: images of which a training is told that they show nothing.

Each optimiser step sees as many outliers as labelled images, and adds `WEIGHT` times
`snojoe.training.losses.towards_none` of them to its loss (Hendrycks et al., "Deep anomaly detection
with outlier exposure", ICLR 2019). Which, and how they are cropped, follows from (seed, epoch,
index) alone, as of the labelled images beside them. BatchNorm's stored statistics are measured anew
on labelled images alone, after every epoch in which they were not frozen: `snojoe.training.loop`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from snojoe.data.pseudo_ood import PSEUDO_OOD
from snojoe.data.shards import Shards
from snojoe.training.loader import Crops, InEpochs, TrainSet, TrainTransform

WEIGHT = 0.5
"""Of the outliers' loss beside that of the labelled images: that of Hendrycks et al."""

_STREAM = 1  # apart from what crops are drawn with


class PseudoOutliers(InEpochs):
    """The five sets of `snojoe.data.pseudo_ood`, made of the crops of an epoch.

    In each epoch every crop makes one of the five kinds, in the next the next; mixtures take a
    second crop at random.
    """

    def __init__(self, train: TrainSet) -> None:
        self.train = train
        self.seed = train.seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.train)

    def __getitem__(self, position: int) -> Tensor:
        """(H, W, 3) uint8."""
        epoch, index = divmod(position, len(self))
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, index, _STREAM)))
        other = (index + rng.integers(1, max(len(self), 2))) % len(self)
        crops = [self.train.crop(epoch, each).numpy() for each in (index, int(other))]
        makers = list(PSEUDO_OOD.values())
        made = makers[(index + epoch) % len(makers)](np.stack(crops), rng)
        return torch.from_numpy(made[0])


class AuxiliaryOutliers(InEpochs):
    """Crops of the user's outliers: as many in an epoch as there are labelled images, in turn."""

    def __init__(self, shards: Shards, transform: TrainTransform, seed: int, images: int) -> None:
        self.crops = Crops(shards, transform, seed)
        self.images = images
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, position: int) -> Tensor:
        """(H, W, 3) uint8."""
        turn, index = divmod(position, len(self.crops.encoded))
        return self.crops.crop(turn, index)
