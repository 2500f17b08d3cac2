"""The spectral norm of a convolution as the linear map that it is."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

Shape = tuple[int, int, int]  # channels, height, width
Pair = tuple[int, ...]  # vertical, horizontal


@dataclass(frozen=True)
class OperatorNorm:
    """sigma(W) = max |W * x| / |x| over inputs x of the layer's true size.

    ``*`` is the convolution with the layer's stride, zero padding, dilation and groups, so sigma is
    its Lipschitz constant. Gouk et al. 2021, "Regularisation of neural networks by enforcing
    Lipschitz continuity"; SNGP and DUE bound it. It equals the norm of the reshaped kernel for
    dense 1x1 convolutions; for 3x3 kernels it is about 1.5 times as large.

    The groups of a convolution are separate maps, each followed on its own: a power iteration on
    all together would never leave the group that led at first. The methods are those of `Norm`.
    """

    input_shape: Shape
    output_shape: Shape
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d, input_shape: Shape, output_shape: Shape) -> "OperatorNorm":
        """Return the norm of a convolution between images of these shapes.

        Raises
        ------
        ValueError
            If the convolution pads with anything but a given number of zeros.
        """
        pads_itself = "same" in type(conv).__name__.lower()  # timm's, by the size of the image
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or pads_itself:
            raise ValueError(f"norm='operator' expects zero padding given in pixels, got {conv}")
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        return cls(input_shape, output_shape, *geometry)

    def maps(self, weight: Tensor) -> Tensor:
        """Return the kernels of the groups, (groups, out / groups, in / groups, height, width)."""
        return weight.view(self.groups, -1, *weight.shape[1:])

    def sizes(self, maps: Tensor) -> tuple[int, int]:
        """Return the sizes of the output and the input of one group."""
        out_size, in_size = math.prod(self.output_shape), math.prod(self.input_shape)
        return out_size // self.groups, in_size // self.groups

    def forward(self, maps: Tensor, v: Tensor) -> Tensor:
        """Return the convolution of v."""
        images = _images(v, self.input_shape)
        return _rows(F.conv2d(images, maps.flatten(0, 1), None, *self._geometry(len(maps))), v)

    def adjoint(self, maps: Tensor, u: Tensor) -> Tensor:
        """Return the transposed convolution of u."""
        images = _images(u, self.output_shape)
        shape = (len(images), maps.shape[0] * maps.shape[2], *self.input_shape[1:])
        result: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
            shape, maps.flatten(0, 1), images, *self._geometry(len(maps))
        )
        return _rows(result, u)

    def start(self, maps: Tensor) -> Tensor:
        """Return a random vector, the same in every process."""
        noise = torch.randn(min(self.sizes(maps)), generator=torch.Generator().manual_seed(0))
        return F.normalize(noise, dim=0).to(maps).expand(len(maps), -1)

    def stretch(self, weight: Tensor) -> float:
        """Return the root of the kernel's size: each pixel of the input is in so many patches."""
        return math.sqrt(weight.shape[2] * weight.shape[3])

    def add_slope(self, grad: Tensor, u: Tensor, v: Tensor, sigma: Tensor, times: Tensor) -> Tensor:
        """Return grad + times * d sigma / d W, which lies in the largest group."""
        # Autocast would round the slope to bfloat16.
        with torch.autocast(grad.device.type, enabled=False):
            slopes: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
                _images(v[:, None], self.input_shape),
                grad.shape,
                _images(u[:, None], self.output_shape),
                *self._geometry(self.groups),
            )
        largest = F.one_hot(sigma.argmax(), len(sigma)) * times
        return grad.add_((self.maps(slopes) * largest.view(-1, 1, 1, 1, 1)).view_as(grad))

    def _geometry(self, groups: int) -> tuple[Pair, Pair, Pair, int]:
        return self.stride, self.padding, self.dilation, groups


def _images(rows: Tensor, shape: Shape) -> Tensor:
    """Lay the flat images of k maps (k, rows, size) side by side as channels of one batch."""
    return rows.transpose(0, 1).reshape(rows.shape[1], -1, *shape[1:])


def _rows(images: Tensor, like: Tensor) -> Tensor:
    """Undo `_images`: one flat image for each of the maps and rows of `like`."""
    return images.reshape(like.shape[1], like.shape[0], -1).transpose(0, 1)
