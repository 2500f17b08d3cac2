"""The spectral norm of the reshaped kernel, as a matrix of (out, in * height * width)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReshapeNorm:
    """sigma(W) = max |M v| / |v| with M = W reshaped to (out, -1).

    Miyato et al. 2018, "Spectral normalization for generative adversarial networks", and what
    ``torch.nn.utils.parametrizations.spectral_norm`` computes. For a linear layer and a dense 1x1
    convolution it is the Lipschitz constant; for larger kernels it is not (see `OperatorNorm`).

    Weights are (k, out, in, ...): k of one shape. Vectors are rows, (k, rows, size).
    """

    def sizes(self, weight: Tensor) -> tuple[int, int]:
        """Return the lengths of u and v for one weight."""
        return weight.shape[0], weight[0].numel()

    def forward(self, weights: Tensor, v: Tensor) -> Tensor:
        """Return M v for every row."""
        return v @ weights.flatten(2).mT

    def adjoint(self, weights: Tensor, u: Tensor) -> Tensor:
        """Return M' u for every row."""
        return u @ weights.flatten(2)

    def start(self, weights: Tensor) -> Tensor:
        """Return the leading singular vectors (k, 1, min(out, in)), exact, of the shorter side."""
        matrices = weights.flatten(2)
        if matrices.shape[1] > matrices.shape[2]:
            matrices = matrices.mT
        return torch.linalg.eigh(matrices @ matrices.mT).eigenvectors[..., -1:].mT

    def add_gradient_(self, grad: Tensor, u: Tensor, v: Tensor, factor: Tensor) -> None:
        """Add ``factor`` times d sigma / d W = u v' to the contiguous ``grad`` of one weight."""
        grad.view(len(u), -1).addr_(u * factor, v)
