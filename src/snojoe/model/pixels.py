"""From pixels to what a network takes, and the device it runs on."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from snojoe.model.preprocessing import MEAN, STD


def normalise(pixels: Tensor) -> Tensor:
    """uint8 images (n, H, W, 3) to float32 (n, 3, H, W), channels last, ImageNet statistics."""
    rows = pixels.float().flatten(2)
    mean, std = _statistics(pixels.device, pixels.shape[2])
    return rows.sub_(mean).div_(std).view(pixels.shape).permute(0, 3, 1, 2)


@cache  # a copy to a GPU in every step would wait for it
@torch.inference_mode(False)
def _statistics(device: torch.device, width: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a row of pixels: longer runs than 3 are quicker on a CPU."""
    mean, std = (torch.tensor(each, device=device) * 255 for each in (MEAN, STD))
    return mean.repeat(width), std.repeat(width)


def default_device() -> torch.device:
    """The accelerator of this machine, or its CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
