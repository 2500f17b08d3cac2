"""A weight divided by its spectral norm, as a ``torch.nn.utils.parametrize`` parametrisation."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

from snojoe.spectral_norm.bounds import Bound
from snojoe.spectral_norm.layers import Weighted
from snojoe.spectral_norm.reshape_norm import ReshapeNorm

Norm = ReshapeNorm


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
    u, v, sigma
        Leading singular vectors, flat, and value: sigma = u' W v.
    basis
        Three rows, the shorter of u and v and two directions in which the next iteration looks
        for a better one (see `iteration`).
    """

    u: Tensor
    v: Tensor
    sigma: Tensor
    basis: Tensor

    def __init__(self, norm: Norm, bound: Bound, weight: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.bound = bound
        out_size, in_size = norm.sizes(weight)
        self.register_buffer("u", weight.new_zeros(out_size))
        self.register_buffer("v", weight.new_zeros(in_size))
        self.register_buffer("sigma", weight.new_zeros(()))
        self.register_buffer("basis", weight.new_zeros(3, min(out_size, in_size)))
        self.basis[:1] = norm.start(weight[None])[0]

    def forward(self, weight: Tensor) -> Tensor:
        """Return W / d(sigma)."""
        return cast(Tensor, _Divide.apply(weight, self))


class _Divide(torch.autograd.Function):
    """W_hat = W / d(sigma) with sigma = u' W v stored rather than computed.

    With G = dL/dW_hat the chain rule gives

        dL/dW = (G - <G, W_hat> d'(sigma) dsigma/dW) / d(sigma).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, state: NormalizedWeight) -> Tensor:
        divisor = state.bound.divisor(state.sigma)
        normalized = weight / divisor
        ctx.save_for_backward(normalized, state.u, state.v, state.sigma, divisor)
        ctx.state = state
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        normalized, u, v, sigma, divisor = ctx.saved_tensors
        state: NormalizedWeight = ctx.state
        # Autocast would round these products to bfloat16.
        with torch.autocast(grad_output.device.type, enabled=False):
            grad_output = grad_output.contiguous()
            along = torch.dot(grad_output.view(-1), normalized.reshape(-1))
            grad = grad_output / divisor
            state.norm.add_gradient_(grad, u, v, -along * state.bound.slope(sigma) / divisor)
        return grad, None


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
