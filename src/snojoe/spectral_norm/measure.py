"""Measure the spectral norm of every weight of a model, normalised or not."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snojoe.spectral_norm.bounds import HardBound
from snojoe.spectral_norm.conv_linear import SpectralWeight
from snojoe.spectral_norm.counted_layers import layer_indices, weighted_modules
from snojoe.spectral_norm.norms import Norm, norm_of
from snojoe.spectral_norm.power_iteration import converge
from snojoe.spectral_norm.reshape_norm import ReshapeNorm
from snojoe.spectral_norm.shapes import convolution_shapes
from snojoe.spectral_norm.singular_triplets import SingularTriplets


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
        Whether it is spectrally normalised.
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
def spectral_norms(
    model: nn.Module, *, norm: str = "reshape", example_input: Tensor | None = None
) -> list[WeightSigma]:
    """Return the spectral norm of every convolution and linear weight of a model.

    Nothing is changed: no buffer, no gradient, no random state.

    Parameters
    ----------
    model
        Any module; its layers are counted as `counted_layers` says.
    norm
        ``"reshape"``: the largest singular value of the kernel reshaped to (out, -1), exact.
        ``"operator"``: that of the convolution as a linear map, by converged power iteration
        (relative error below 1e-3).
    example_input
        For the operator norm: a batch that the model is run on once, to see the input size of each
        convolution.

    Returns
    -------
    list of WeightSigma
        In the order of ``model.named_modules()``. `sigma` and `raw_sigma` are measured anew from
        the weights, whatever the normalisation has stored, and whatever norm it uses.

    Raises
    ------
    ValueError
        If `norm` is unknown, `example_input` is missing for the operator norm or does not reach a
        convolution, or a weight is not finite.
    """
    modules = weighted_modules(model)
    shapes = convolution_shapes(model, example_input) if norm == "operator" else {}
    indices = layer_indices(model)
    records = []
    for name, module in modules.items():
        weight, factor = module.weight, 1.0
        if isinstance(module, SpectralWeight):
            weight, factor = module.trained_weight, float(module.spectral_norm.factor)
        raw_sigma = _sigma(weight, norm_of(module, norm, shapes))
        records.append(
            WeightSigma(
                name=f"{name}.weight",
                layer=indices.get(name, 0),
                normalized=isinstance(module, SpectralWeight),
                sigma=raw_sigma * factor,
                raw_sigma=raw_sigma,
            )
        )
    return records


def _sigma(weight: Tensor, norm: Norm) -> float:
    if isinstance(norm, ReshapeNorm):
        return _largest_singular_value(weight.flatten(1))
    probe = SingularTriplets(norm, HardBound(), weight)
    converge([(probe, weight)])
    return float(probe.sigma)


def _largest_singular_value(matrix: Tensor) -> float:
    # The root of the largest eigenvalue of the smaller Gram matrix: float64 gives it to all digits
    # of a float32 weight, several times faster than the singular value decomposition.
    matrix = (matrix.cpu() if matrix.device.type == "mps" else matrix).double()
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.mT
    # Python's root: PyTorch's is MKL's, which begins at the processor's own approximation (RSQRTPS)
    # and is not always rounded right.
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(matrix @ matrix.mT)[-1])))
