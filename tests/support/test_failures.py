import pytest
import torch

from snojoe.support.errors import SnojoeError
from snojoe.support.failures import explained


def test_an_accelerator_out_of_memory_is_told_which_batch_to_try():
    with (
        pytest.raises(SnojoeError, match=r"^train\.batch_size: 32 images do not fit .*; try 16$"),
        explained("train.batch_size", 32),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with (
        pytest.raises(SnojoeError, match=r"infer\.batch_size: 1 images do not fit .*memory$"),
        explained("infer.batch_size", 1),
    ):
        raise torch.OutOfMemoryError


def test_so_is_a_processor():
    with (
        pytest.raises(SnojoeError, match=r"^train\.batch_size: 32 images do not fit .*; try 16$"),
        explained("train.batch_size", 32),
    ):
        torch.empty(2**50, dtype=torch.uint8)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="size mismatch"), explained("train.batch_size", 32):
        raise RuntimeError("size mismatch")
