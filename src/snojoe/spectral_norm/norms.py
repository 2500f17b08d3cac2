"""What the definitions of a weight's spectral norm have in common, and the choice between them."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from snojoe.spectral_norm.counted_layers import Weighted
from snojoe.spectral_norm.operator_norm import OperatorNorm, Shape
from snojoe.spectral_norm.reshape_norm import ReshapeNorm


class Norm(Protocol):
    """A weight read as k linear maps A; its spectral norm is the largest of theirs.

    Vectors u are outputs of a map and v its inputs, flat. Implementations compare equal where
    their maps can be iterated together.
    """

    def maps(self, weight: Tensor) -> Tensor:
        """Return the maps of one weight, (k, ...)."""
        ...

    def sizes(self, maps: Tensor) -> tuple[int, int]:
        """Return the lengths of u and v."""
        ...

    def forward(self, maps: Tensor, v: Tensor) -> Tensor:
        """Return A v, (k, rows, len u), of the rows of v (k, rows, len v)."""
        ...

    def adjoint(self, maps: Tensor, u: Tensor) -> Tensor:
        """Return A' u, (k, rows, len v), of the rows of u (k, rows, len u)."""
        ...

    def start(self, maps: Tensor) -> Tensor:
        """Return a first guess at the shorter leading singular vector of each map."""
        ...

    def stretch(self, weight: Tensor) -> float:
        """Return how much larger sigma can be than that of the weight as a matrix (out, -1)."""
        ...

    def add_slope(self, grad: Tensor, u: Tensor, v: Tensor, sigma: Tensor, times: Tensor) -> Tensor:
        """Return grad + times * d max(sigma) / d W for one weight; `grad` may be overwritten."""
        ...


def norm_of(module: Weighted, norm: str, shapes: Mapping[nn.Module, tuple[Shape, Shape]]) -> Norm:
    """Return the norm named ``"reshape"`` or ``"operator"`` for the weight of a module.

    Raises
    ------
    ValueError
        If the name is another, or `shapes` lacks the convolution.
    """
    if norm not in ("reshape", "operator"):
        raise ValueError(f"norm={norm!r}: expected reshape or operator")
    if norm == "reshape" or isinstance(module, nn.Linear):
        return ReshapeNorm()
    if module not in shapes:
        raise ValueError(f"norm='operator': the example input did not reach {module}")
    return OperatorNorm.of(module, *shapes[module])
