import os
import signal

import pytest
import torch
from test_training import fit  # noqa: F401: the fixture

from snojoe.data.loader import TrainSet
from snojoe.errors import SnojoeError
from snojoe.failures import explained


def test_an_accelerator_out_of_memory_is_told_which_batch_to_try():
    with (
        pytest.raises(SnojoeError, match=r"^train\.batch_size: 32 images do not fit .*; try 16$"),
        explained("train.batch_size", 32),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with (
        pytest.raises(SnojoeError, match="infer.batch_size: 1 images do not fit .*memory$"),
        explained("infer.batch_size", 1),
    ):
        raise torch.OutOfMemoryError


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="size mismatch"), explained("train.batch_size", 32):
        raise RuntimeError("size mismatch")


def test_a_worker_that_dies_is_named(prepared, monkeypatch):
    def die(self, index):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(TrainSet, "__getitem__", die)
    with (
        pytest.raises(SnojoeError, match=r"^train\.workers: .*worker.*; the same command goes on"),
        explained("train.batch_size", 8),
    ):
        fit(prepared, workers=1)
