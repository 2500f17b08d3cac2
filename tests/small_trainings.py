"""What tests of trainings share: settings that take a second, and an end before its time."""

import contextlib

import pytest
import torch

from snojoe.params import Train
from snojoe.training import loop

SIZE = 16


class _Interrupt(Exception):
    pass


def settings(**changes):
    values = {
        "epochs": 2,
        "batch_size": 8,
        "gradient_accumulation": 1,
        "lr": 0.001,
        "trunk_lr_factor": 0.5,
        "schedule": "constant",
        "freeze_after_epoch": None,
        "augment": {"flip": 0.5, "scale": [0.5, 1.0]},
        "workers": 0,
    }
    return Train.model_validate(values | changes)


@contextlib.contextmanager
def killed_at(epoch):
    """A training within ends when that epoch is said, from 1; it is an error if it does not."""

    def kill(row, *_):
        if row["epoch"] == epoch:
            raise _Interrupt
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "epoch_line", kill)
        with pytest.raises(_Interrupt):
            yield


def states_equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))
