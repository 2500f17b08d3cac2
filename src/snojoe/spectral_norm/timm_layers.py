"""timm's convolution and linear layer with a weight that is divided by its spectral norm.

Both read ``self.weight``, once, as a linear map: what they read is W / d(sigma(W)).
"""

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.linear import Linear
from torch import nn

from snojoe.spectral_norm.conv_linear import SpectralWeight


class SpectralConv2dSame(SpectralWeight, Conv2dSame):  # type: ignore[override]
    """timm's convolution of TensorFlow's padding, with W / d(sigma(W))."""

    plain = Conv2dSame


class SpectralTimmLinear(SpectralWeight, Linear):  # type: ignore[misc, override]
    """timm's linear layer, with W / d(sigma(W))."""

    plain = Linear


TIMM_SPECTRAL: dict[type[nn.Module], type[SpectralWeight]] = {
    layer.plain: layer for layer in (SpectralConv2dSame, SpectralTimmLinear)
}
