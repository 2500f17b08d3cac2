"""The multi-label classifier: a torchvision trunk, average pooling and JointEnergy's head."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models.resnet import BasicBlock, ResNet

from snojoe.model.architectures import TRUNKS, layer_names
from snojoe.support.errors import SnojoeError
from snojoe.support.text import first_line

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
    """

    def __init__(self, trunk: nn.Sequential, channels: int, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(
            OrderedDict(
                hidden=nn.Linear(channels, HIDDEN),
                bn=nn.BatchNorm1d(HIDDEN),
                relu=nn.ReLU(inplace=True),
                classifier=nn.Linear(HIDDEN, num_classes),
            )
        )

    def layers(self) -> list[tuple[str, nn.Module]]:
        """The counted layers; ``sn_layers=L`` normalises what lies in the first L."""
        return [*self.trunk.named_children(), ("avgpool", self.avgpool), ("head", self.head)]

    def outputs(self, images: Tensor) -> Outputs:
        """Normalised images (n, 3, H, W) -> logits, features and hidden layer."""
        features = self.avgpool(self.trunk(images))
        hidden = self.head[:-1](features)
        return Outputs(self.head[-1](hidden), features, hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> logits (n, K)."""
        logits: Tensor = self.head(self.avgpool(self.trunk(images)))
        return logits


def build_classifier(arch: str, num_classes: int, weights: str | Path | None = None) -> Classifier:
    """Build a classifier; the head is always freshly initialised.

    Parameters
    ----------
    arch : str
        One of ``snojoe.model.architectures.TRUNKS``.
    num_classes : int
        K.
    weights : str, Path or None
        Of the trunk: None for random ones, a torchvision name such as ``IMAGENET1K_V1``
        (fetched by torchvision, checksum verified), or the path of a state dict of torchvision's
        model (``.pth`` without pickled code, or ``.safetensors``).

    Raises
    ------
    ValueError
        If ``arch`` is unknown or ``num_classes`` is not positive.
    SnojoeError
        If the weights do not exist or do not fit the architecture.
    """
    if arch not in TRUNKS:
        raise ValueError(f"arch: expected one of {', '.join(TRUNKS)}; got {arch!r}")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1; got {num_classes}")
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
    path = Path(weights)
    if path.suffix in (".pth", ".pt", ".safetensors"):
        state = _read_state(path)
    else:
        try:
            entry = zoo.get_model_weights(arch)[str(weights)]
        except (KeyError, ValueError):
            raise SnojoeError(
                f"weights: expected a .pth or .safetensors file or a torchvision name for {arch}; "
                f"got {weights!r}"
            ) from None
        state = entry.get_state_dict(check_hash=True)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:]]
        raise SnojoeError(
            f"{weights}: does not fit {arch} ({len(problems)} differences, first: {problems[0]})"
        ) from None


def _read_state(path: Path) -> dict[str, Tensor]:
    import pickle

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SnojoeError(f"{path}: no such weights file") from None
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise SnojoeError(f"{path}: not a readable state dict ({first_line(error)})") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise SnojoeError(f"{path}: expected a state dict (name -> tensor)")
    return state


__all__ = [
    "HIDDEN",
    "Classifier",
    "Outputs",
    "build_classifier",
    "layer_names",
    "resnet10",
]
