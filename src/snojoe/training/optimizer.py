"""Adam with two rates, and how they change over the training."""

from __future__ import annotations

from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from snojoe.model.classifier import Classifier
from snojoe.params import Train


def build_optimizer(model: Classifier, params: Train) -> Adam:
    """``lr`` for the new head; a share of it, ``trunk_lr_factor``, for the pretrained trunk."""
    return Adam(
        [
            {"params": list(model.trunk.parameters()), "lr": params.lr * params.trunk_lr_factor},
            {"params": list(model.head.parameters()), "lr": params.lr},
        ],
        betas=(0.9, 0.999),
        fused=True,
    )


def build_schedule(optimizer: Optimizer, params: Train, steps: int) -> LRScheduler:
    """Learning rates over ``steps`` optimiser steps; each group's rate is the peak of its cycle."""
    if params.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=steps, cycle_momentum=False)
    return ConstantLR(optimizer, factor=1.0)
