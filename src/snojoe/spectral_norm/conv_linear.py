"""The convolution and the linear layer with a weight that is divided by its spectral norm."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from snojoe.spectral_norm.singular_triplets import SingularTriplets
from snojoe.spectral_norm.spectral_layer import SpectralLayer


class SpectralWeight(SpectralLayer):
    """Base of `SpectralConv2d` and `SpectralLinear`: W_hat = W / d(sigma(W)).

    The SNoJoE paper's eq. 13, after Miyato et al. 2018, "Spectral normalization for generative
    adversarial networks", eq. 8; `bounds` has d and `norms` has sigma.

    In a pass through the network s = 1 / d(sigma) is applied to the input, the weight or the
    output, whichever is the smallest: the layers are linear, (W s) * x = W * (x s) = (W * x) s.
    Deep in a network a weight is larger than what goes in or comes out, and dividing it would cost
    more.
    """

    added = "spectral_norm"
    spectral_norm: SingularTriplets
    bias: Tensor | None

    @property
    def weight(self) -> Tensor:
        """W / d(sigma), differentiable in W. Reading it changes nothing."""
        weight, factor = self.spectral_norm.factored(self.trained_weight)
        return weight * factor

    def _scaled(self, compute: Callable[..., Tensor], input: Tensor, *, output_size: int) -> Tensor:
        """Return ``compute(input, self.weight, self.bias)``, the smallest of the three scaled."""
        weight, factor = self.spectral_norm.factored(self.trained_weight)
        smallest = min(input.numel(), weight.numel(), output_size)
        if input.numel() == smallest:
            return compute(input * factor, weight, self.bias)
        if weight.numel() == smallest:
            return compute(input, weight * factor, self.bias)
        output = compute(input, weight, None) * factor
        if self.bias is None:
            return output
        bias = self.bias.to(output.dtype)
        return output + (bias.view(-1, 1, 1) if weight.dim() == 4 else bias)


class SpectralConv2d(SpectralWeight, nn.Conv2d):  # type: ignore[override]
    """Conv2d with W / d(sigma(W)), of the reshaped kernel or of the convolution as a map."""

    plain = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of (n, in_channels, height, width)."""
        positions = input.numel() // (input.shape[-3] * self.stride[0] * self.stride[1])
        return self._scaled(self._conv_forward, input, output_size=positions * self.out_channels)


class SpectralLinear(SpectralWeight, nn.Linear):  # type: ignore[misc, override]
    """Linear with W / d(sigma(W))."""

    plain = nn.Linear

    def forward(self, input: Tensor) -> Tensor:
        """Return the product with (..., in_features)."""
        outputs = input.numel() // self.in_features * self.out_features
        return self._scaled(F.linear, input, output_size=outputs)


_SPECTRAL: dict[type[nn.Module], type[SpectralWeight]] = {
    layer.plain: layer for layer in (SpectralConv2d, SpectralLinear)
}


def spectral_class(plain: type[nn.Module]) -> type[SpectralWeight] | None:
    """The class that takes the place of a plain one; None where there is none.

    A subclass may compute in another way (weight standardisation would undo the division), so only
    those are taken whose code is known.
    """
    if plain.__module__.startswith("timm."):
        from snojoe.spectral_norm.timm_layers import TIMM_SPECTRAL

        return TIMM_SPECTRAL.get(plain)
    return _SPECTRAL.get(plain)
