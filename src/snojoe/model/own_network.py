"""A network that somebody has trained already: their code, their checkpoint, and what is read."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from snojoe.model.classifier import Classifier, Outputs
from snojoe.model.state_dict import check_same, read_state, stripped
from snojoe.support.errors import SnojoeError


class OwnClassifier(Classifier):
    """A trained network, with what its last linear layer reads, and its logits in another order.

    Parameters
    ----------
    network : nn.Module
        Gives logits, as a tensor or as ``.logits``.
    head : str or None
        Name of its last linear layer; None where the head is not one: ``hidden`` has no columns.
    features : str or None
        Name of the module whose output is the pooled features; None: what the head reads.
    order : sequence of int, optional
        Which logits to take, in order; all where it is missing.

    Raises
    ------
    SnojoeError
        If there is no such module, or the head is not linear.
    """

    def __init__(
        self,
        network: nn.Module,
        head: str | None,
        features: str | None,
        order: Sequence[int] | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.network = network
        self.order = None if order is None else list(order)
        self.last = None if head is None else head
        self._seen: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []
        if head is not None:
            layer = _module(network, head, "head")
            if not isinstance(layer, nn.Linear):
                raise SnojoeError(
                    f"model.own.head: expected a linear layer; {head} is {type(layer).__name__}"
                )
            self._hooks.append(layer.register_forward_pre_hook(self._see_hidden))
        if features is not None:
            module = _module(network, features, "features")
            self._hooks.append(module.register_forward_hook(self._see_features))

    def _see_hidden(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._seen["hidden"] = args[0]

    def _see_features(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen["features"] = output

    def unhook(self) -> None:
        """Keep the logits alone, as an exported file does."""
        for hook in self._hooks:
            hook.remove()

    def layers(self) -> list[tuple[str, nn.Module]]:
        """The network as one layer: it is not to be normalised any more."""
        return [("network", self.network)]

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> pooled features (n, C)."""
        return self.outputs(images).features

    def outputs(self, images: Tensor) -> Outputs:
        """Normalised images (n, 3, H, W) -> logits, features and hidden layer."""
        logits = self(images)
        none = logits.new_zeros(logits.shape[0], 0)  # its len() would be a number for an exporter
        hidden = _flat(self._seen.pop("hidden", none), "head")
        features = _flat(self._seen.pop("features", hidden), "features")
        return Outputs(logits, features, hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> logits (n, K)."""
        found = self.network(images)
        logits: Tensor = found if isinstance(found, Tensor) else found.logits
        return logits if self.order is None else logits[:, self.order]

    def linear_head(self) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of the last layer; D = 0 where it is not linear."""
        if self.last is None:
            rows = torch.zeros(len(self.order or ()), 0)
            return rows, torch.zeros(len(rows))
        layer: Any = self.network.get_submodule(self.last)
        weight = layer.weight.detach().float()
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().float()
        return (weight, bias) if self.order is None else (weight[self.order], bias[self.order])


def build_own(
    code: Path, own: Mapping[str, Any], classes: Sequence[str], weights: Path | None = None
) -> OwnClassifier:
    """Run a file of the user's and make a classifier of the network that its function returns.

    Parameters
    ----------
    code : Path
        The file; it is run.
    own : mapping
        ``model.own`` of the parameters.
    classes : sequence of str
        The K labels, in the order that the logits are to have.
    weights : Path, optional
        A checkpoint for the network, under its own names, with or without a prefix.

    Raises
    ------
    SnojoeError
        If the code fails, the network is not an ``nn.Module`` that can be hooked, its classes are
        others, or the weights do not fit, with the first differences.
    """
    network = _call(code, own["network"].rpartition(":")[2])
    if weights is not None:
        _load(network, weights)
    theirs = own["classes"] or classes
    if missing := [name for name in classes if name not in theirs]:
        raise SnojoeError(
            f"model.own.classes: expected all classes of the data; missing {', '.join(missing)}"
        )
    order = [theirs.index(name) for name in classes]
    return OwnClassifier(network.eval(), own["head"], own["features"], order)


def check_own(model: OwnClassifier, own: Mapping[str, Any], image_size: int) -> None:
    """Run the network once and see that it gives as many logits as it has classes.

    Raises
    ------
    SnojoeError
        Naming the parameter.
    """
    order, model.order = model.order, None
    try:
        with torch.no_grad():
            found = model.outputs(torch.zeros(2, 3, image_size, image_size))
    except SnojoeError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise SnojoeError(
            f"model.own.network: it fails on images of {image_size} pixels ({error})"
        ) from error
    finally:
        model.order = order
    expected = len(own["classes"] or order or ())
    if tuple(found.logits.shape) != (2, expected):
        raise SnojoeError(
            f"model.own.classes: {expected} for logits of shape {tuple(found.logits.shape)}"
        )
    if model.last is not None:
        layer: Any = model.network.get_submodule(model.last)
        with torch.no_grad():
            again = nn.functional.linear(found.hidden, layer.weight, layer.bias)
        same = again.shape == found.logits.shape
        if not same or not torch.allclose(again, found.logits, rtol=1e-3, atol=1e-3):
            raise SnojoeError(f"model.own.head: {model.last} does not give the logits")


def _call(code: Path, function: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location("snojoe_own_network", code)
    if spec is None or spec.loader is None or not code.is_file():
        raise SnojoeError(f"{code}: no such file of code (model.own.network)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes look themselves up
    try:
        spec.loader.exec_module(module)
        network = getattr(module, function)()
    except Exception as error:  # whatever the user's code raises
        raise SnojoeError(f"{code}: {function}: {type(error).__name__}: {error}") from error
    if isinstance(network, torch.jit.ScriptModule):
        raise SnojoeError(f"{code}: {function} gives TorchScript, which cannot be hooked")
    if not isinstance(network, nn.Module):
        raise SnojoeError(f"{code}: {function} gives {type(network).__name__}, not an nn.Module")
    return network


def _load(network: nn.Module, weights: Path) -> None:
    expected = network.state_dict()
    try:
        state = stripped(read_state(weights), expected)
        check_same(
            missing=[name for name in expected if name not in state],
            unexpected=[name for name in state if name not in expected],
            different=[
                f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
                for name, tensor in expected.items()
                if name in state and state[name].shape != tensor.shape
            ],
        )
    except SnojoeError as error:
        if str(error).startswith(str(weights)):
            raise
        raise SnojoeError(f"{weights}: does not fit the network {error}") from None
    network.load_state_dict(state)


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The module of that name.

    Raises
    ------
    ValueError
        If there is none; it names linear layers, of which one may be meant.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
        raise ValueError(
            f"no module {name!r} in {type(model).__name__}; its last linear layers are "
            f"{', '.join(linear[-3:]) or 'none'}"
        ) from None


def _module(network: nn.Module, name: str, parameter: str) -> nn.Module:
    try:
        return submodule(network, name)
    except ValueError as error:
        raise SnojoeError(f"model.own.{parameter}: {error}") from None


def _flat(values: Tensor, parameter: str) -> Tensor:
    if values.ndim > 2 and values.shape[2:].numel() == 1:
        values = values.flatten(1)
    if values.ndim != 2:
        raise SnojoeError(f"model.own.{parameter}: expected (n, D); got {tuple(values.shape)}")
    return values
