"""Measure the spectral norm of every weight of a model, normalised or not."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snojoe.spectral_norm.layers import layer_indices, weighted_modules
from snojoe.spectral_norm.parametrization import normalization_of, raw_weight


@dataclass(frozen=True)
class WeightSigma:
    """The spectral norm of one weight.

    Attributes
    ----------
    name
        Parameter name in the plain model, such as ``"layer1.0.conv1.weight"``.
    layer
        Counted layer that holds it, from 1; 0 where no counted layer does.
    normalized
        Whether spectral normalisation is registered on it.
    sigma
        Spectral norm of the weight that the model computes with.
    raw_sigma
        Spectral norm of the weight that is trained; `sigma` where it is not normalised.
    """

    name: str
    layer: int
    normalized: bool
    sigma: float
    raw_sigma: float


@torch.no_grad()
def spectral_norms(model: nn.Module) -> list[WeightSigma]:
    """Return the exact spectral norm of every convolution and linear weight of a model.

    Nothing is changed: no buffer, no gradient, no random state.

    Parameters
    ----------
    model
        Any module; its layers are counted as `counted_layers` says.

    Returns
    -------
    list of WeightSigma
        In the order of ``model.named_modules()``, sigma of the kernel reshaped to (out, -1).
    """
    indices = layer_indices(model)
    records = []
    for name, module in weighted_modules(model).items():
        state = normalization_of(module)
        raw_sigma = reshaped_sigma(raw_weight(module))
        divisor = 1.0 if state is None else float(state.bound.divisor(state.sigma))
        records.append(
            WeightSigma(
                name=f"{name}.weight",
                layer=indices.get(name, 0),
                normalized=state is not None,
                sigma=raw_sigma / divisor,
                raw_sigma=raw_sigma,
            )
        )
    return records


def reshaped_sigma(weight: Tensor) -> float:
    """Return the largest singular value of a weight reshaped to (out, -1), float64 inside.

    It is the root of the largest eigenvalue of the smaller Gram matrix, which float64 gives to all
    digits, several times faster than the singular value decomposition.
    """
    matrix = weight.detach().double().flatten(1)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.mT
    return float(torch.linalg.eigvalsh(matrix @ matrix.mT)[-1].clamp_min(0).sqrt())
