"""Put spectral normalisation on a model, iterate it once per optimiser step, and bake it in."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from snojoe.spectral_norm.bounds import Bound, HardBound, SoftBound
from snojoe.spectral_norm.conv_linear import SpectralWeight, spectral_class
from snojoe.spectral_norm.counted_layers import Weighted, first_layers
from snojoe.spectral_norm.norms import norm_of
from snojoe.spectral_norm.operator_norm import Shape
from snojoe.spectral_norm.power_iteration import Member, converge, follow, refresh
from snojoe.spectral_norm.shapes import convolution_shapes
from snojoe.spectral_norm.singular_triplets import SingularTriplets


class SpectralNorm:
    """The normalised weights of a model, iterated together.

    Parameters
    ----------
    model
        A module whose weights `apply_spectral_norm` or `normalize_modules` has normalised, or a
        copy of one. Without normalised weights every method does nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [module for module in model.modules() if isinstance(module, SpectralWeight)]

    def __len__(self) -> int:
        """Return the number of normalised weights."""
        return len(self._modules)

    def power_iteration(self) -> None:
        """Bring every u, v and sigma up to date; call it once per optimiser step.

        One accelerated power iteration per weight, and more where a step went so far that sigma
        still grows by more than 3e-6 of itself; none for a while where the steps are so small that
        sigma stays within 1e-2 without (see `snojoe.spectral_norm.power_iteration`).

        Raises
        ------
        SnojoeError
            If a weight is not finite: the training has diverged.
        """
        follow(self._members())

    def refresh(self) -> None:
        """Bring every u, v and sigma up to date that `power_iteration` let rest.

        Call it after the last step, or wherever sigma is to be exact: it is then within 1e-3.

        Raises
        ------
        SnojoeError
            If a weight is not finite.
        """
        refresh(self._members())

    def _members(self) -> list[Member]:
        return [
            (module.spectral_norm, module.trained_weight)
            for module in self._modules
            if isinstance(module, SpectralWeight)  # no longer one once it is folded
        ]

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
    example_input: Tensor | None = None,
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
        The c of the soft bound, positive. The others do not use it.
    norm
        ``"reshape"``: sigma of the reshaped kernel, torch's and the paper's. ``"operator"``: sigma
        of the convolution as a linear map on inputs of its true size.
    example_input
        For the operator norm: a batch that the model is run on once, to see the input size of each
        convolution.

    Returns
    -------
    SpectralNorm
        Call its ``power_iteration()`` after each optimiser step, or ``attach(optimizer)`` once.

    Raises
    ------
    ValueError
        If `sn_layers` is out of range, `bound` or `norm` is unknown, `coefficient` is not
        positive, `example_input` is missing for the operator norm, a weight is not finite, or its
        module is of a subclass of Conv2d or Linear (a normalised or parametrised one is) other
        than timm's Conv2dSame and Linear.
    """
    modules = [module for layer in first_layers(model, sn_layers) for module in layer.modules()]
    shapes = convolution_shapes(model, example_input) if norm == "operator" else {}
    normalize_modules(modules, bound=bound, coefficient=coefficient, norm=norm, shapes=shapes)
    return SpectralNorm(model)


def normalize_modules(
    modules: Iterable[nn.Module],
    *,
    bound: str = "hard",
    coefficient: float = 3.0,
    norm: str = "reshape",
    shapes: Mapping[nn.Module, tuple[Shape, Shape]] | None = None,
) -> None:
    """Normalise the weight of each convolution and linear module among `modules`.

    For models whose layers are not to be counted: ``normalize_modules(model.modules())`` takes
    everything, and ``SpectralNorm(model)`` then iterates it. `shapes` is what `convolution_shapes`
    returns, for the operator norm. The other parameters and the errors are those of
    `apply_spectral_norm`.
    """
    divide = _bound(bound, coefficient)
    chosen = [module for module in dict.fromkeys(modules) if isinstance(module, Weighted)]
    classes = [spectral_class(type(module)) for module in chosen]
    for module, spectral in zip(chosen, classes, strict=True):
        if spectral is None:
            raise ValueError(f"expected a plain Conv2d or Linear, got {module}")
        if not module.weight.isfinite().all():
            raise ValueError(f"the weight of {module} is not finite: it has no spectral norm")
    norms = [norm_of(module, norm, shapes or {}) for module in chosen]
    if divide is None:
        return
    members = [
        (SingularTriplets(kind, divide, module.weight), module.weight.detach())
        for kind, module in zip(norms, chosen, strict=True)
    ]
    converge(members)
    for module, spectral, (triplets, _) in zip(chosen, classes, members, strict=True):
        if spectral is not None:
            spectral.put_on(module, triplets)


def _bound(bound: str, coefficient: float) -> Bound | None:
    if not coefficient > 0:
        raise ValueError(f"coefficient={coefficient!r}: expected a positive number")
    match bound:
        case "none":
            return None
        case "hard":
            return HardBound()
        case "soft":
            return SoftBound(coefficient)
    raise ValueError(f"bound={bound!r}: expected none, hard or soft")


def fold_spectral_norm(model: nn.Module) -> nn.Module:
    """Bake the normalised weights into plain convolutions and linear layers.

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
        if isinstance(module, SpectralWeight):
            module.fold()
    return model
