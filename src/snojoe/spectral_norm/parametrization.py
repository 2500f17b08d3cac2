"""A weight divided by its spectral norm, as a ``torch.nn.utils.parametrize`` parametrisation."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

from snojoe.spectral_norm.bounds import Bound
from snojoe.spectral_norm.layers import Weighted
from snojoe.spectral_norm.norms import Norm


class NormalizedWeight(nn.Module):
    """Parametrisation W -> W / d(sigma(W)), with its singular vectors and sigma as buffers.

    Reading the weight costs one division and changes nothing: the buffers move only in
    `SpectralNorm.power_iteration`, and are saved, loaded and copied with the model.

    Parameters
    ----------
    norm
        What sigma means.
    bound
        The divisor d.
    weight
        The weight before normalisation.

    Attributes
    ----------
    u, v, sigmas
        Leading singular vectors (k, size) and values (k,) of the k linear maps that the norm sees
        in the weight (one, but for grouped convolutions under the operator norm).
    basis
        (k, 3, size) vectors, the shorter of u and v and two directions in which the next iteration
        looks for a better one (see `iteration`).
    """

    u: Tensor
    v: Tensor
    sigmas: Tensor
    basis: Tensor

    def __init__(self, norm: Norm, bound: Bound, weight: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.bound = bound
        maps = norm.maps(weight.detach())
        out_size, in_size = norm.sizes(maps)
        self.register_buffer("u", weight.new_zeros(len(maps), out_size))
        self.register_buffer("v", weight.new_zeros(len(maps), in_size))
        self.register_buffer("sigmas", weight.new_zeros(len(maps)))
        self.register_buffer("basis", weight.new_zeros(len(maps), 3, min(out_size, in_size)))
        self.basis[:, 0] = norm.start(maps)

    @property
    def sigma(self) -> Tensor:
        """Spectral norm of the weight, the largest of `sigmas`."""
        return self.sigmas.max()

    @property
    def divisor(self) -> Tensor:
        """What the weight is divided by."""
        return self.bound.divisor(self.sigma)

    def forward(self, weight: Tensor) -> Tensor:
        """Return W / d(sigma)."""
        return cast(Tensor, _Divide.apply(weight, self))


class _Divide(torch.autograd.Function):
    """W_hat = W / d(sigma) with sigma stored rather than computed.

    With G = dL/dW_hat the chain rule gives

        dL/dW = (G - <G, W_hat> d'(sigma) dsigma/dW) / d(sigma).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, state: NormalizedWeight) -> Tensor:
        divisor = state.divisor
        normalized = weight / divisor
        ctx.save_for_backward(normalized, state.u, state.v, state.sigmas, divisor)
        ctx.state = state
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        normalized, u, v, sigmas, divisor = ctx.saved_tensors
        norm, bound = ctx.state.norm, ctx.state.bound
        if grad_output.stride() != normalized.stride():
            grad_output = torch.empty_like(normalized).copy_(grad_output)
        # Autocast would round these products to bfloat16.
        with torch.autocast(grad_output.device.type, enabled=False):
            along = torch.dot(_in_memory_order(grad_output), _in_memory_order(normalized))
            pull = along * bound.slope(sigmas.max()) / divisor
            return norm.gradient(grad_output, u, v, sigmas, divisor, pull), None


def _in_memory_order(weight: Tensor) -> Tensor:
    return weight.as_strided((weight.numel(),), (1,))


def normalization_of(module: nn.Module) -> NormalizedWeight | None:
    """Return the parametrisation of a module's weight, or None where there is none of ours."""
    if not parametrize.is_parametrized(module, "weight"):
        return None
    first = cast(nn.ModuleDict, module.parametrizations)["weight"][0]  # type: ignore[index]
    return first if isinstance(first, NormalizedWeight) else None


def raw_weight(module: Weighted) -> Tensor:
    """Return the trained weight, before any normalisation."""
    if parametrize.is_parametrized(module, "weight"):
        return cast(Tensor, cast(nn.ModuleDict, module.parametrizations)["weight"].original)
    return module.weight
