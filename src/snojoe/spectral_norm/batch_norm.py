"""BatchNorm beside spectral normalisation: frozen, recalibrated, or bounded itself.

In front of a BatchNorm in train mode hard spectral normalisation changes nothing: the statistics of
the batch divide sigma out again. How BatchNorm is treated decides whether it can have an effect.
"""

from collections.abc import Iterable
from itertools import chain
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snojoe.spectral_norm.layers import first_layers
from snojoe.spectral_norm.shapes import modes_kept


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every BatchNorm into eval mode: stored statistics, while scale and shift still learn.

    ``model.train()`` ends it, so a training loop calls this after it.
    """
    for module in _batch_norms(model):
        module.eval()


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the stored statistics of every BatchNorm anew, as the mean over `batches`.

    Spectral normalisation rescales what reaches a BatchNorm, whose stored statistics then belong to
    the weights of before. The rest of the model runs in eval mode; all modes are left as they were.

    Raises
    ------
    ValueError
        If `batches` is empty while the model has a BatchNorm.
    """
    modules = _batch_norms(model)
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


def apply_spectral_batch_norm(model: nn.Module, sn_layers: int, coefficient: float = 3.0) -> None:
    """Bound the scale of every BatchNorm inside the first `sn_layers` counted layers, in place.

    Parameters
    ----------
    model
        Its layers are counted as for `snojoe.spectral_norm.apply_spectral_norm`. Parameters keep
        their identity and names.
    sn_layers
        Depth, from 0 (nothing) to the number of counted layers.
    coefficient
        The c of `SpectralBatchNorm2d`, positive.

    Raises
    ------
    ValueError
        If `sn_layers` is out of range, `coefficient` is not positive, or a BatchNorm is bounded
        already, or not a BatchNorm1d or BatchNorm2d with a scale.
    """
    if not coefficient > 0:
        raise ValueError(f"coefficient={coefficient!r}: expected a positive number")
    modules = [m for layer in first_layers(model, sn_layers) for m in _batch_norms(layer)]
    for module in modules:
        if type(module) not in _BOUNDED or module.weight is None:
            raise ValueError(f"expected BatchNorm1d or BatchNorm2d with a scale, got {module}")
    for module in modules:
        module.__class__ = _BOUNDED[type(module)]
        cast(_Bounded, module).coefficient = coefficient


@torch.no_grad()
def fold_spectral_batch_norm(model: nn.Module) -> nn.Module:
    """Bake the bounded scales into plain BatchNorms, in place; the eval outputs stay the same."""
    for module in model.modules():
        if isinstance(module, _Bounded):
            module.weight.copy_(module.bounded_weight())
            module.__class__ = _PLAIN[type(module)]  # type: ignore[assignment]
            del module.coefficient
    return model


class _Bounded(_BatchNorm):
    running_var: Tensor
    num_batches_tracked: Tensor
    coefficient: float

    def bounded_weight(self) -> Tensor:
        """Return the scale (channels,) that the layer applies."""
        lipschitz = (self.weight / (self.running_var + self.eps).sqrt()).abs().max()
        return self.weight / (lipschitz / self.coefficient).clamp_min(1.0)

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        mean = self.momentum is None and self.training
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.bounded_weight(),
            self.bias,
            self.training,
            1 / self.num_batches_tracked.item() if mean else self.momentum or 0.0,
            self.eps,
        )


class SpectralBatchNorm1d(_Bounded, nn.BatchNorm1d):
    """`SpectralBatchNorm2d` for (n, channels) inputs."""


class SpectralBatchNorm2d(_Bounded, nn.BatchNorm2d):
    """BatchNorm with gamma <- gamma / max(1, s / c), s = max |gamma / sqrt(running var + eps)|.

    In eval mode BatchNorm is an affine map of Lipschitz constant s; this one has at most c. Van
    Amersfoort et al. 2021, "On feature collapse and deep kernel learning for single forward pass
    uncertainty" (DUE), after Gouk et al. 2021, eq. 28. The bound uses the stored variance in train
    mode too, where the batch's variance does the normalising.
    """


_BOUNDED: dict[type[_BatchNorm], type[_Bounded]] = {
    nn.BatchNorm1d: SpectralBatchNorm1d,
    nn.BatchNorm2d: SpectralBatchNorm2d,
}
_PLAIN = {bounded: plain for plain, bounded in _BOUNDED.items()}


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorms that store statistics."""
    modules = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return [module for module in modules if module.track_running_stats]
