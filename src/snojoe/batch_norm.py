"""BatchNorm beside spectral normalisation: frozen, recalibrated.

In front of a BatchNorm in train mode hard SN changes nothing: the batch statistics divide sigma
out again. How BatchNorm is treated therefore decides whether SN can have any effect.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every BatchNorm into eval mode: stored statistics, the affine part still learns.

    ``model.train()`` ends it; a training loop calls this after each.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the stored statistics by the average over ``batches``; modes are left as they were."""
    modules = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    training = {module: module.training for module in model.modules()}
    momenta = {module: module.momentum for module in modules}
    model.train()
    for module in modules:
        module.reset_running_stats()
        module.momentum = None  # a cumulative average
    for batch in batches:
        model(batch)
    for module in modules:
        module.momentum = momenta[module]
    for module, mode in training.items():
        module.training = mode
