"""The spectral norm of a convolution as the linear map that it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

Pair = tuple[int, int]


@dataclass(frozen=True)
class OperatorNorm:
    """sigma(W) = max |W * x| / |x| over inputs x of the layer's true size.

    ``*`` is the convolution with the layer's stride, zero padding, dilation and groups, so sigma is
    its Lipschitz constant. Gouk et al. 2021, "Regularisation of neural networks by enforcing
    Lipschitz continuity", and what SNGP and DUE bound. It equals the reshaped kernel's norm for
    dense 1x1 convolutions; a 3x3 kernel of stride 1 comes out about 1.5 times as large.

    Weights are (k, out, in / groups, height, width), k of one shape: they are one convolution of
    k groups. Vectors are rows, (k, rows, size), the flattened inputs and outputs.
    """

    input_shape: tuple[int, int, int]  # channels, height, width
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d, input_shape: tuple[int, int, int]) -> "OperatorNorm":
        """Return the norm of a convolution on inputs (channels, height, width).

        Raises
        ------
        ValueError
            If the convolution pads with anything but a given number of zeros.
        """
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(f"norm='operator' expects zero padding given in pixels, got {conv}")
        return cls(
            input_shape,
            _pair(conv.stride),
            _pair(conv.padding),
            _pair(conv.dilation),
            conv.groups,
        )

    def output_shape(self, weight: Tensor) -> tuple[int, int, int]:
        """Return channels, height and width of the output."""
        height, width = (
            (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1
            for size, pad, gap, kernel, step in zip(
                self.input_shape[1:],
                self.padding,
                self.dilation,
                weight.shape[-2:],
                self.stride,
                strict=True,
            )
        )
        return weight.shape[-4], height, width
