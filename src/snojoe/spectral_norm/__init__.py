"""Spectral normalisation of pretrained networks: followed at every step, and measurable.

>>> handle = apply_spectral_norm(model, sn_layers=9)  # sigma is exact from here on
>>> handle.attach(optimizer)                          # follow sigma, within 1e-2, at every step
>>> handle.refresh()                                  # after the last one: exact again
>>> spectral_norms(model)                             # look, without changing anything
>>> fold_spectral_norm(model)                         # a plain model with normalised weights
"""

from snojoe.spectral_norm.apply import (
    SpectralNorm,
    apply_spectral_norm,
    fold_spectral_norm,
    normalize_modules,
)
from snojoe.spectral_norm.counted_layers import (
    counted_layers,
    layer_indices,
    normalized_weights,
)
from snojoe.spectral_norm.measure import WeightSigma, spectral_norms
from snojoe.spectral_norm.shapes import convolution_shapes

__all__ = [
    "SpectralNorm",
    "WeightSigma",
    "apply_spectral_norm",
    "convolution_shapes",
    "counted_layers",
    "fold_spectral_norm",
    "layer_indices",
    "normalize_modules",
    "normalized_weights",
    "spectral_norms",
]
