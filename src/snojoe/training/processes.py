"""One training by several processes: what computes, and how a batch is shared."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from snojoe.support.errors import SnojoeError


def start_accelerator() -> Accelerator:
    """What computes: the GPU of this process or the CPU, in bf16 where a GPU has it."""
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # else torchrun's processes do not meet
        mixed_precision="bf16" if _has_bf16() else "no",
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
    )


def check_shares(batch: int, processes: int, gradient_accumulation: int) -> None:
    """Check that a batch can be shared, and each share be split, with two images in each part.

    Raises
    ------
    SnojoeError
        If it cannot, with the largest number of parts that would do.
    """
    if batch % processes:
        raise SnojoeError(
            f"train.batch_size: expected a multiple of the {processes} processes; got {batch}"
        )
    share = batch // processes
    if share < 2 * gradient_accumulation:
        raise SnojoeError(
            f"train.gradient_accumulation: expected at most {max(share // 2, 1)}, since BatchNorm "
            f"needs two images and a process has {share} of a batch; got {gradient_accumulation}"
        )


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
