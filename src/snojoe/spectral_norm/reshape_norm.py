"""The spectral norm of the reshaped kernel, as a matrix of (out, in * height * width)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from snojoe.spectral_norm.scaling import power_of_two


@dataclass(frozen=True)
class ReshapeNorm:
    """sigma(W) = max |M v| / |v| with M = W reshaped to (out, -1).

    Miyato et al. 2018, "Spectral normalization for generative adversarial networks", and what
    ``torch.nn.utils.parametrizations.spectral_norm`` computes. For a linear layer and a dense 1x1
    convolution it is the Lipschitz constant; for larger kernels it is not (see `OperatorNorm`).
    The methods are those of `Norm`.
    """

    def maps(self, weight: Tensor) -> Tensor:
        """Return the weight as the only map, (1, out, in, ...)."""
        return weight[None]

    def sizes(self, maps: Tensor) -> tuple[int, int]:
        """Return the rows and columns of M."""
        return maps.shape[1], maps[0, 0].numel()

    def forward(self, maps: Tensor, v: Tensor) -> Tensor:
        """Return M v."""
        return _rows(v.view(*v.shape[:2], *maps.shape[2:]), maps) @ _rows(maps, maps).mT

    def adjoint(self, maps: Tensor, u: Tensor) -> Tensor:
        """Return M' u."""
        return _unrows(u @ _rows(maps, maps), maps).flatten(2)

    def start(self, maps: Tensor) -> Tensor:
        """Return the exact singular vector, from the smaller Gram matrix."""
        matrices = maps.flatten(2)
        matrices = matrices / power_of_two(matrices)
        if matrices.shape[1] > matrices.shape[2]:
            matrices = matrices.mT
        return torch.linalg.eigh(matrices @ matrices.mT).eigenvectors[..., -1]

    def stretch(self, weight: Tensor) -> float:
        """Return 1: it is that sigma."""
        return 1.0

    def add_slope(self, grad: Tensor, u: Tensor, v: Tensor, sigma: Tensor, times: Tensor) -> Tensor:
        """Return grad + times * u v', in the memory of grad."""
        maps = self.maps(grad)
        row = _rows(v.view(1, 1, *grad.shape[1:]), maps)[0, 0]
        rows = _rows(maps, maps)
        rows[0].addr_(times * u[0], row)
        return _unrows(rows, maps)[0]


def _is_channels_last(maps: Tensor) -> bool:
    return maps.dim() == 5 and not maps.is_contiguous()


def _rows(kernels: Tensor, maps: Tensor) -> Tensor:
    """Flatten kernels (k, rows, in, ...) in the memory order of `maps`, which is not copied."""
    return (kernels.permute(0, 1, 3, 4, 2) if _is_channels_last(maps) else kernels).flatten(2)


def _unrows(rows: Tensor, maps: Tensor) -> Tensor:
    """Undo `_rows`."""
    if not _is_channels_last(maps):
        return rows.view(*rows.shape[:2], *maps.shape[2:])
    channels, height, width = maps.shape[2:]
    return rows.view(*rows.shape[:2], height, width, channels).permute(0, 1, 4, 2, 3)
