"""The leading singular triplets (u, sigma, v) of a weight, and what the weight is scaled by."""

from dataclasses import astuple
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snojoe.spectral_norm.bounds import Bound
from snojoe.spectral_norm.movement import Rest, sampled_rows
from snojoe.spectral_norm.norms import Norm


class SingularTriplets(nn.Module):
    """What is known of sigma(W), as buffers: saved, loaded and copied with the model.

    They move only in `SpectralNorm.power_iteration`; nothing that reads them changes them.

    Parameters
    ----------
    norm
        What sigma means.
    bound
        The divisor d of W / d(sigma).
    weight
        The weight before normalisation.

    Attributes
    ----------
    u, v, sigmas
        Leading singular vectors (k, size) and values (k,) of the k linear maps that the norm sees
        in the weight (one, but for grouped convolutions under the operator norm).
    basis
        (k, 3, size) vectors, the shorter of u and v and two directions in which the next iteration
        looks for a better one (see `power_iteration`).
    factor, factor_slope, factor_unit
        1 / d(sigma), a scalar, and its derivative with respect to sigma, which is ``factor_slope *
        factor_unit**2``; the unit is the power of two next to the factor, whose square may be out
        of float32's range. Kept, since every pass through the network reads them.
    anchor
        Some rows of the weight as it was at the last iteration (see `movement`).
    rest
        What decides when the weight is iterated; saved with the buffers.
    """

    u: Tensor
    v: Tensor
    sigmas: Tensor
    basis: Tensor
    factor: Tensor
    factor_slope: Tensor
    factor_unit: Tensor
    anchor: Tensor

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
        self.register_buffer("factor_unit", weight.new_ones(()))
        self.register_buffer("anchor", sampled_rows(weight).clone())
        self.rest = Rest()

    def get_extra_state(self) -> Tensor:
        """Return `rest`, (3,) int64, for the state dict."""
        return torch.tensor(astuple(self.rest))

    def set_extra_state(self, state: Tensor) -> None:
        """Take up `rest` from a state dict."""
        self.rest = Rest(*state.tolist())

    @property
    def sigma(self) -> Tensor:
        """Spectral norm of the weight, the largest of `sigmas`."""
        return self.sigmas.max()

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
    def forward(ctx: Any, weight: Tensor, triplets: SingularTriplets) -> tuple[Tensor, Tensor]:
        slope, unit = triplets.factor_slope, triplets.factor_unit
        ctx.save_for_backward(triplets.u, triplets.v, triplets.sigmas, slope, unit)
        ctx.norm = triplets.norm
        return weight.view_as(weight), triplets.factor.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_factor: Tensor) -> tuple[Tensor, None]:
        u, v, sigmas, slope, unit = ctx.saved_tensors
        # The gradient may be overwritten: the only use of W has just computed it.
        return ctx.norm.add_slope(grad, u, v, sigmas, grad_factor * unit * slope * unit), None
