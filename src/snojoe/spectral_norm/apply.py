"""Put spectral normalisation on a model, iterate it once per optimiser step, and bake it in."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from snojoe.spectral_norm.bounds import Bound, HardBound, SoftBound
from snojoe.spectral_norm.iteration import batches, iterate
from snojoe.spectral_norm.layers import Weighted, first_layers
from snojoe.spectral_norm.parametrization import NormalizedWeight, normalization_of, raw_weight
from snojoe.spectral_norm.reshape_norm import ReshapeNorm

BOUNDS = ("none", "hard", "soft")
NORMS = ("reshape",)


class SpectralNorm:
    """The normalised weights of a model, iterated together.

    Parameters
    ----------
    model
        A module whose weights `apply_spectral_norm` or `register` has normalised, or a copy of
        one. Without normalised weights every method does nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @torch.no_grad()
    def power_iteration(self) -> None:
        """Bring every u, v and sigma up to date; call it once per optimiser step.

        One accelerated power iteration per weight. A weight whose sigma still grew by more than
        1e-4 of itself is iterated again, which happens where a step moved it far.

        Raises
        ------
        FloatingPointError
            If a weight is not finite: the training has diverged.
        """
        members = [
            (state, raw_weight(module))
            for module in self.model.modules()
            if isinstance(module, Weighted) and (state := normalization_of(module)) is not None
        ]
        iterate(batches(members), tolerance=1e-4, max_iterations=10)

    def attach(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Run `power_iteration` after each step of `optimizer`, until the handle is removed."""
        return optimizer.register_step_post_hook(lambda *_: self.power_iteration())


def apply_spectral_norm(
    model: nn.Module,
    sn_layers: int,
    *,
    bound: str = "hard",
    coefficient: float = 3.0,
    norm: str = "reshape",
) -> SpectralNorm:
    """Normalise every convolution and linear weight inside the first `sn_layers` layers.

    Parameters
    ----------
    model
        Changed in place. Its layers are counted as `counted_layers` says.
    sn_layers
        Depth, from 0 (nothing) to the number of counted layers (everything, head included).
    bound
        ``"hard"``: W / sigma, the paper. ``"soft"``: W / max(1, sigma / c), SNGP and DUE.
        ``"none"``: nothing is normalised.
    coefficient
        The c of the soft bound, positive. Unused by the others.
    norm
        ``"reshape"``: sigma of the reshaped kernel, torch's and the paper's.

    Returns
    -------
    SpectralNorm
        Call its ``power_iteration()`` after each optimiser step, or ``attach(optimizer)`` once.

    Raises
    ------
    ValueError
        If `sn_layers` is out of range, `bound` or `norm` is unknown, `coefficient` is not
        positive, a weight is not finite, or it is parametrised already.
    """
    modules = [module for layer in first_layers(model, sn_layers) for module in layer.modules()]
    register(modules, bound=bound, coefficient=coefficient, norm=norm)
    return SpectralNorm(model)


def register(
    modules: Iterable[nn.Module],
    *,
    bound: str = "hard",
    coefficient: float = 3.0,
    norm: str = "reshape",
) -> None:
    """Normalise the weight of each convolution and linear module in `modules`, as given.

    For models whose layers are not to be counted: ``register(model.modules())`` takes everything,
    ``SpectralNorm(model)`` then iterates it. Parameters and errors as in `apply_spectral_norm`.
    """
    rule = _bound(bound, coefficient)
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r}: expected one of {', '.join(NORMS)}")
    if rule is None:
        return
    chosen = [module for module in modules if isinstance(module, Weighted)]
    for module in chosen:
        if parametrize.is_parametrized(module, "weight"):
            raise ValueError(f"the weight of {module} is parametrised already; fold it first")
        if not module.weight.isfinite().all():
            raise ValueError(f"the weight of {module} is not finite: it has no spectral norm")
    with torch.no_grad():
        members = [
            (NormalizedWeight(ReshapeNorm(), rule, module.weight), module.weight)
            for module in chosen
        ]
        iterate(batches(members), tolerance=1e-7, max_iterations=100)
    for module, (state, _) in zip(chosen, members, strict=True):
        parametrize.register_parametrization(module, "weight", state)


def _bound(bound: str, coefficient: float) -> Bound | None:
    if bound not in BOUNDS:
        raise ValueError(f"bound={bound!r}: expected one of {', '.join(BOUNDS)}")
    if not coefficient > 0:
        raise ValueError(f"coefficient={coefficient!r}: expected a positive number")
    rules = {"none": None, "hard": HardBound(), "soft": SoftBound(coefficient)}
    return rules[bound]


def fold_spectral_norm(model: nn.Module) -> nn.Module:
    """Bake the normalised weights in and remove the parametrisation.

    Parameters
    ----------
    model
        Changed in place: its weights become the normalised ones, and its state dict has the names
        of the plain model. The parameters stay the same objects. A model without normalised
        weights is left as it is.

    Returns
    -------
    nn.Module
        `model`, whose outputs are what they were.
    """
    for module in model.modules():
        if normalization_of(module) is not None:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model
