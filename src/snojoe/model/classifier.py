"""The multi-label classifier: a torchvision trunk, average pooling and JointEnergy's head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snojoe.model import timm_networks
from snojoe.model.architectures import TRUNKS, is_timm, layer_names
from snojoe.model.pixels import normalise
from snojoe.model.preprocessing import MEAN, STD, Statistics
from snojoe.model.state_dict import load_trunk, read_state
from snojoe.model.weights import WEIGHTS_SUFFIXES, weights_suffix
from snojoe.support.errors import SnojoeError
from snojoe.support.light_imports import compiler_when_called
from snojoe.support.text import first_line

with compiler_when_called():
    from torchvision import models as zoo
    from torchvision.models.resnet import BasicBlock, ResNet

HIDDEN = 1000


class Outputs(NamedTuple):
    """What the network says of a batch.

    Attributes
    ----------
    logits : (n, K) float32, f
    features : (n, C) float32, z: the trunk's pooled features
    hidden : (n, 1000) float32, h: the input of the last linear layer
    """

    logits: Tensor
    features: Tensor
    hidden: Tensor


class Classifier(nn.Module):
    """Trunk -> global average pooling -> Linear -> BatchNorm -> ReLU -> Linear.

    Parameters
    ----------
    trunk : nn.Sequential
        Top-level blocks of the architecture, named; gives (n, C, h, w).
    channels : int
        C.
    num_classes : int
        K.

    Attributes
    ----------
    mean, std : (float, float, float)
        What the images are normalised with, ImageNet's unless set to others.
    """

    mean: Statistics = MEAN
    std: Statistics = STD

    def __init__(self, trunk: nn.Sequential, channels: int, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = joint_energy_head(channels, num_classes)

    def layers(self) -> list[tuple[str, nn.Module]]:
        """The counted layers; ``sn_layers=L`` normalises what lies in the first L."""
        return [*self.trunk.named_children(), ("avgpool", self.avgpool), ("head", self.head)]

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 images (n, H, W, 3) -> float32 (n, 3, H, W), what this network takes."""
        return normalise(pixels, self.mean, self.std)

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> pooled features (n, C)."""
        features: Tensor = self.avgpool(self.trunk(images))
        return features

    def outputs(self, images: Tensor) -> Outputs:
        """Normalised images (n, 3, H, W) -> logits, features and hidden layer."""
        features = self.features(images)
        hidden = self.head[:-1](features)
        return Outputs(self.head[-1](hidden), features, hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> logits (n, K)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class TimmClassifier(Classifier):
    """The same head on a network of timm's, pooled by timm's own head.

    Parameters
    ----------
    trunk : nn.Module
        A network of timm's without its classifier.
    num_classes : int
        K.
    """

    def __init__(self, trunk: nn.Module, num_classes: int) -> None:
        nn.Module.__init__(self)
        self.trunk: Any = trunk
        self.head = joint_energy_head(timm_networks.channels(trunk), num_classes)

    def layers(self) -> list[tuple[str, nn.Module]]:
        """The counted layers; ``sn_layers=L`` normalises what lies in the first L."""
        return [*timm_networks.layers(self.trunk), ("head", self.head)]

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> pooled features (n, C)."""
        return timm_networks.pooled_features(self.trunk, images)


def joint_energy_head(channels: int, num_classes: int) -> nn.Sequential:
    """Linear -> BatchNorm -> ReLU -> Linear, from (n, C) to (n, K)."""
    return nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(channels, HIDDEN),
            bn=nn.BatchNorm1d(HIDDEN),
            relu=nn.ReLU(inplace=True),
            classifier=nn.Linear(HIDDEN, num_classes),
        )
    )


def build_classifier(
    arch: str,
    num_classes: int,
    weights: str | Path | None = None,
    image_size: int | None = None,
) -> Classifier:
    """Build a classifier; the head is always freshly initialised.

    Parameters
    ----------
    arch : str
        One of ``snojoe.model.architectures.TRUNKS``, or ``timm/<name>``.
    num_classes : int
        K.
    weights : str, Path or None
        Of the trunk: None for random ones, a torchvision name such as ``IMAGENET1K_V1``
        (fetched by torchvision, checksum verified), or the path of a checkpoint of such a network,
        as training scripts save them (`snojoe.model.state_dict`). Of timm's networks always a file.
    image_size : int, optional
        Edge of the images, where a network of timm's is built for one size; its own otherwise.

    Raises
    ------
    ValueError
        If ``arch`` is unknown or ``num_classes`` is not positive.
    SnojoeError
        If the weights do not exist or do not fit the architecture.
    """
    if arch not in TRUNKS and not is_timm(arch):
        raise ValueError(f"arch: expected one of {', '.join(TRUNKS)} or timm/<name>; got {arch!r}")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1; got {num_classes}")
    if is_timm(arch):
        file = None if weights is None else Path(weights)
        return TimmClassifier(timm_networks.build(arch, image_size, file), num_classes)
    network = resnet10() if arch == "resnet10" else zoo.get_model(arch, weights=None)
    if weights is not None:
        _load_weights(network, arch, weights)
    blocks = dict(network.named_children())
    last: Any = blocks.pop("fc", None) or blocks.pop("classifier")
    blocks.pop("avgpool", None)
    if "features" in blocks:  # DenseNet, MobileNet: the blocks lie one level deeper
        blocks = dict(blocks["features"].named_children())
    if arch == "densenet121":
        # torchvision applies the last ReLU in forward(); here it belongs to the last block.
        blocks["norm5"] = nn.Sequential(OrderedDict(norm=blocks["norm5"], relu=nn.ReLU()))
    trunk = nn.Sequential(OrderedDict(zip(TRUNKS[arch], blocks.values(), strict=True)))
    linear: Any = last[-1] if isinstance(last, nn.Sequential) else last
    return Classifier(trunk, int(linear.in_features), num_classes)


class Unfilled(TorchFunctionMode):
    """Within, no parameter is initialised: for a network that is given stored ones next."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        initialises = getattr(func, "__module__", None) == nn.init.__name__
        if initialises or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def check_classifier(model: Classifier, arch: str, depths: Iterable[int], image_size: int) -> None:
    """See that a network of timm's has these depths and takes these images.

    The parameters were checked against all others without building any.

    Raises
    ------
    SnojoeError
        Naming the parameter.
    """
    if not is_timm(arch):
        return
    names = [name for name, _ in model.layers()]
    for depth in depths:
        if depth > len(names):
            raise SnojoeError(f"sn_layers: expected 0 to {len(names)} for {arch}; got {depth}")
    model.eval()
    try:
        with torch.inference_mode():
            found = tuple(model.features(torch.zeros(1, 3, image_size, image_size)).shape)
    except Exception as error:  # whatever a network's own code raises
        raise SnojoeError(
            f"data.image_size: {arch} does not take images of {image_size} pixels "
            f"({first_line(error)})"
        ) from None
    expected = (1, timm_networks.channels(model.trunk))
    if found != expected:
        raise SnojoeError(f"model.arch: {arch} gives features of shape {found}, not {expected}")


def resnet10() -> ResNet:
    """A small ResNet for small images: one basic block per stage, half of ResNet-18's width.

    The stem is a 3 x 3 convolution of stride 1, so that an image of 32 x 32 still has 2 x 2
    positions at the end.
    """
    network = ResNet(BasicBlock, [1, 1, 1, 1])
    channels = (32, 32, 64, 128, 256)
    network.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
    network.bn1 = nn.BatchNorm2d(channels[0])
    for stage, (before, after) in enumerate(pairwise(channels), start=1):
        stride, shortcut = (1, None) if before == after else (2, _shortcut(before, after))
        block = BasicBlock(before, after, stride, shortcut)
        setattr(network, f"layer{stage}", nn.Sequential(block))
    network.fc = nn.Linear(channels[-1], 1000)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _shortcut(before: int, after: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 1, stride=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))


def _load_weights(network: nn.Module, arch: str, weights: str | Path) -> None:
    if weights_suffix(weights):
        state = read_state(Path(weights))
    else:
        try:
            entry = zoo.get_model_weights(arch)[str(weights)]
        except (KeyError, ValueError):
            raise SnojoeError(
                f"weights: expected a file ({', '.join(WEIGHTS_SUFFIXES)}) or a torchvision name "
                f"for {arch}; got {weights!r}"
            ) from None
        state = entry.get_state_dict(check_hash=True)
    head = next(name for name in ("fc", "classifier") if hasattr(network, name))
    try:
        load_trunk(network, head, state)
    except SnojoeError as error:
        raise SnojoeError(f"{weights}: does not fit {arch} {error}") from None


__all__ = [
    "HIDDEN",
    "Classifier",
    "Outputs",
    "TimmClassifier",
    "build_classifier",
    "check_classifier",
    "layer_names",
    "resnet10",
]
