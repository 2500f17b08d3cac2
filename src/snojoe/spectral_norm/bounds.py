"""What a weight is divided by, given its spectral norm: W_hat = W / divisor(sigma)."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Bound(Protocol):
    """A divisor of the weight as a function of its spectral norm."""

    def divisor(self, sigma: Tensor) -> Tensor:
        """Return the positive number that the weight is divided by."""
        ...

    def slope(self, sigma: Tensor) -> Tensor:
        """Return the derivative of the divisor with respect to sigma."""
        ...


@dataclass(frozen=True)
class HardBound:
    """W_hat = W / sigma(W): every weight has spectral norm 1. An all-zero weight stays zero.

    Miyato et al. 2018, "Spectral normalization for generative adversarial networks", eq. 8; the
    SNoJoE paper's eq. 13.
    """

    def divisor(self, sigma: Tensor) -> Tensor:
        """Return sigma, or 1 where it is 0."""
        return torch.where(sigma > 0, sigma, 1.0)

    def slope(self, sigma: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(sigma)


@dataclass(frozen=True)
class SoftBound:
    """W_hat = W / max(1, sigma(W) / c): only a weight whose spectral norm exceeds c is scaled.

    Liu et al. 2020, "Simple and principled uncertainty estimation with deterministic deep learning
    via distance awareness" (SNGP); van Amersfoort et al. 2021, "On feature collapse and deep kernel
    learning for single forward pass uncertainty" (DUE). Both train with c between 3 and 6.
    """

    coefficient: float

    def divisor(self, sigma: Tensor) -> Tensor:
        """Return max(1, sigma / c)."""
        return (sigma / self.coefficient).clamp_min(1.0)

    def slope(self, sigma: Tensor) -> Tensor:
        """Return 1 / c where sigma > c, else 0."""
        return (sigma > self.coefficient).to(sigma.dtype) / self.coefficient
