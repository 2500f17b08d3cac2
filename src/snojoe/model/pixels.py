"""From pixels to what a network takes, and the device it runs on."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from snojoe.model.preprocessing import MEAN, STD, Statistics


def normalise(pixels: Tensor, mean: Statistics = MEAN, std: Statistics = STD) -> Tensor:
    """uint8 images (n, H, W, 3) to float32 (n, 3, H, W), channels last.

    The statistics are shares of the range of a channel, ImageNet's by default.
    """
    rows = pixels.float().flatten(2)
    means, stds = _statistics(pixels.device, pixels.shape[2], mean, std)
    return rows.sub_(means).div_(stds).view(pixels.shape).permute(0, 3, 1, 2)


@cache  # a copy to a GPU in every step would wait for it
@torch.inference_mode(False)
def _statistics(
    device: torch.device, width: int, mean: Statistics, std: Statistics
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a row of pixels: longer runs than 3 are quicker on a CPU."""
    means, stds = (torch.tensor(each, device=device) * 255 for each in (mean, std))
    return means.repeat(width), stds.repeat(width)


def default_device() -> torch.device:
    """The accelerator of this machine, or its CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
