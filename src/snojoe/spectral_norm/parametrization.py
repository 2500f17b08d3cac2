"""A weight divided by its spectral norm, as a ``torch.nn.utils.parametrize`` parametrisation."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
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
    factor, factor_slope
        1 / d(sigma), a scalar, and its derivative with respect to sigma: kept, since every pass
        through the network reads them.
    """

    u: Tensor
    v: Tensor
    sigmas: Tensor
    basis: Tensor
    factor: Tensor
    factor_slope: Tensor

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
        self.register_buffer("factor", weight.new_ones(()))
        self.register_buffer("factor_slope", weight.new_zeros(()))

    @property
    def sigma(self) -> Tensor:
        """Spectral norm of the weight, the largest of `sigmas`."""
        return self.sigmas.max()

    def forward(self, weight: Tensor) -> Tensor:
        """Return W / d(sigma)."""
        weight, factor = self.factored(weight)
        return weight * factor

    def factored(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return W and 1 / d(sigma), for one use: their product is the normalised weight."""
        if not torch.is_grad_enabled():
            return weight, self.factor
        return cast(tuple[Tensor, Tensor], _Factored.apply(weight, self))


class _Factored(torch.autograd.Function):
    """W -> (W, s) with s = 1 / d(sigma(W)), sigma being stored rather than computed.

    With the gradients G of the one output and g of the other,

        dL/dW = G + g ds/dW = G + g ds/dsigma dsigma/dW.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, state: NormalizedWeight) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(state.u, state.v, state.sigmas, state.factor_slope)
        ctx.norm = state.norm
        return weight.view_as(weight), state.factor.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_factor: Tensor) -> tuple[Tensor, None]:
        u, v, sigmas, slope = ctx.saved_tensors
        # The gradient may be overwritten: the only use of W has just computed it.
        return ctx.norm.add_slope(grad, u, v, sigmas, grad_factor * slope), None


def scale_smallest(module: Weighted) -> None:
    """Let a normalised module apply 1 / d(sigma) to its input, weight or output: the smallest.

    Convolutions and linear maps are linear: (W s) * x = W * (x s) = (W * x) s. Deep in a network a
    weight is larger than what goes in or comes out, and dividing it would cost more. Modules with
    a `forward` of their own keep it; they read ``module.weight``, which is normalised.
    """
    for plain, forward in ((nn.Conv2d, _convolve), (nn.Linear, _multiply)):
        if isinstance(module, plain) and type(module).forward is plain.forward:
            type(module).forward = forward  # type: ignore[method-assign]


def _convolve(self: nn.Conv2d, input: Tensor) -> Tensor:
    positions = input.numel() // (input.shape[-3] * self.stride[0] * self.stride[1])
    return _apply_scaled(self, self._conv_forward, input, positions * self.out_channels)


def _multiply(self: nn.Linear, input: Tensor) -> Tensor:
    outputs = input.numel() // self.in_features * self.out_features
    return _apply_scaled(self, F.linear, input, outputs)


def _apply_scaled(
    module: Weighted, apply: Callable[..., Tensor], input: Tensor, output_size: int
) -> Tensor:
    state = normalization_of(module)
    if state is None:  # parametrised by somebody else, too
        return apply(input, module.weight, module.bias)
    weight, factor = state.factored(raw_weight(module))
    smallest = min(input.numel(), weight.numel(), output_size)
    if input.numel() == smallest:
        return apply(input * factor, weight, module.bias)
    if weight.numel() == smallest:
        return apply(input, weight * factor, module.bias)
    output = apply(input, weight, None) * factor
    if module.bias is None:
        return output
    bias = module.bias.to(output.dtype)
    return output + (bias.view(-1, 1, 1) if weight.dim() == 4 else bias)


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
