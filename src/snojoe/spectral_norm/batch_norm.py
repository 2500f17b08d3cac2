"""BatchNorm whose scale is bounded: without it a network has no Lipschitz bound.

In train mode the statistics of the batch divide by whatever the weights in front of it multiply by,
up to eps. In eval mode BatchNorm is an affine map that can stretch as far as it likes.
"""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snojoe.spectral_norm.bounds import SoftBound
from snojoe.spectral_norm.counted_layers import first_layers
from snojoe.spectral_norm.spectral_layer import SpectralLayer


class SpectralBatchNorm(SpectralLayer):
    """Base of `SpectralBatchNorm1d` and `SpectralBatchNorm2d`: gamma / max(1, s / c).

    s = max |gamma / sqrt(running var + eps)| is the Lipschitz constant of BatchNorm in eval mode;
    that of this one is at most c. Van Amersfoort et al. 2021, "On feature collapse and deep kernel
    learning for single forward pass uncertainty" (DUE), after Gouk et al. 2021, "Regularisation of
    neural networks by enforcing Lipschitz continuity", eq. 28. The bound uses the stored variance
    in train mode too, where the batch's variance does the normalising.
    """

    added = "bound"
    bound: SoftBound
    running_var: Tensor
    eps: float

    @property
    def weight(self) -> Tensor:
        """The scale (channels,) that the layer applies, differentiable in gamma."""
        gamma = self.trained_weight
        # Not gamma / sqrt(...): PyTorch's root is not the same on every processor, see `measure`.
        lipschitz = (gamma * (self.running_var + self.eps).rsqrt()).abs().max()
        return gamma / self.bound.divisor(lipschitz)


class SpectralBatchNorm1d(SpectralBatchNorm, nn.BatchNorm1d):  # type: ignore[misc]
    """BatchNorm with a bounded scale, for inputs (n, channels)."""

    plain = nn.BatchNorm1d


class SpectralBatchNorm2d(SpectralBatchNorm, nn.BatchNorm2d):  # type: ignore[misc]
    """BatchNorm with a bounded scale, for inputs (n, channels, height, width)."""

    plain = nn.BatchNorm2d


_SPECTRAL: dict[type[nn.Module], type[SpectralBatchNorm]] = {
    layer.plain: layer for layer in (SpectralBatchNorm1d, SpectralBatchNorm2d)
}


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
        The c of `SpectralBatchNorm`, positive.

    Raises
    ------
    ValueError
        If `sn_layers` is out of range, `coefficient` is not positive, or a BatchNorm is bounded
        already, or not a BatchNorm1d or BatchNorm2d with a scale.
    """
    if not coefficient > 0:
        raise ValueError(f"coefficient={coefficient!r}: expected a positive number")
    modules = [
        module
        for layer in first_layers(model, sn_layers)
        for module in layer.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    for module in modules:
        if type(module) not in _SPECTRAL or module.weight is None:
            raise ValueError(f"expected BatchNorm1d or BatchNorm2d with a scale, got {module}")
    for module in modules:
        _SPECTRAL[type(module)].put_on(module, SoftBound(coefficient))


def fold_spectral_batch_norm(model: nn.Module) -> nn.Module:
    """Bake the bounded scales into plain BatchNorms, in place; the eval outputs stay the same."""
    for module in model.modules():
        if isinstance(module, SpectralBatchNorm):
            module.fold()
    return model
