"""The stored statistics of BatchNorm: frozen, or measured anew.

In front of a BatchNorm in train mode hard spectral normalisation leaves outputs and gradients as
they are, up to eps: the statistics of the batch divide sigma out again, so the same function is
trained. The stored statistics are a moving average over past W / sigma, which lags differently than
one over past W: in eval mode the functions differ, until the statistics are measured anew. Frozen,
BatchNorm is an affine map, which divides nothing out.
"""

from collections.abc import Iterable
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snojoe.spectral_norm.shapes import modes_kept


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every BatchNorm into eval mode: stored statistics, while scale and shift still learn.

    ``model.train()`` ends it, so a training loop calls this after it.
    """
    for module in _batch_norms(model):
        module.eval()


def share_batch_norm(model: nn.Module) -> None:
    """Have the processes of a training on several GPUs share the statistics of a batch."""
    if any(type(module).__module__.startswith("timm.") for module in _batch_norms(model)):
        from timm.layers.norm_act import convert_sync_batchnorm  # theirs have an activation in them

        convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    else:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]


@torch.no_grad()
def recalibrate_batch_norm(
    model: nn.Module, batches: Iterable[Tensor], within: nn.Module | None = None
) -> None:
    """Measure the stored statistics of every BatchNorm anew, as the mean over `batches`.

    Those within a part of the model alone, where `within` names it.

    Spectral normalisation rescales what reaches a BatchNorm, whose stored statistics then belong to
    the weights of before. The rest of the model runs in eval mode; all modes are left as they were.

    `torch.optim.swa_utils.update_bn` starts from variances of 1, which a bounded scale reads.

    Raises
    ------
    ValueError
        If `batches` is empty while there is a BatchNorm.
    """
    modules = _batch_norms(within or model)
    if not modules:
        return
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        raise ValueError("batches: expected at least one batch, got none")
    momenta = [module.momentum for module in modules]
    with modes_kept(model):
        model.eval()
        for module in modules:
            module.train()
            module.momentum = None  # a cumulative mean, which starts anew at a count of 0
            cast(Tensor, module.num_batches_tracked).zero_()
        try:
            for batch in chain([first], remaining):
                model(batch)
        finally:
            for module, momentum in zip(modules, momenta, strict=True):
                module.momentum = momentum


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorms that store statistics."""
    modules = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return [module for module in modules if module.track_running_stats]
