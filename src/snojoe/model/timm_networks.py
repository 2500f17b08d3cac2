"""Networks of timm's as trunks: built, counted, pooled by their own head. timm is optional."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snojoe.model.described import import_timm
from snojoe.model.state_dict import State, check_same, read_state, stripped
from snojoe.support.errors import SnojoeError
from snojoe.support.text import first_line

# Children that hold the blocks one level deeper.
_CONTAINERS = ("blocks", "stages", "layers", "features")
# From the first of these on a network is timm's head, which pools.
_POOLING = ("global_pool", "attn_pool", "fc_norm", "head_drop", "pre_logits", "head")
# They do nothing once a network is trained.
_IDLE = (nn.Identity, nn.Dropout, nn.Flatten)


def build(arch: str, image_size: int | None = None, weights: Path | None = None) -> nn.Module:
    """A network of timm's without its classifier.

    Parameters
    ----------
    arch : str
        ``timm/<name>``.
    image_size : int, optional
        Edge of the images, for networks that are built for one size (most transformers); others
        take any. The positions of a pretrained one are then interpolated, as timm does.
    weights : Path, optional
        A checkpoint under timm's names, or under others that timm renames for this network; what
        it has of a classifier is left out.

    Raises
    ------
    SnojoeError
        If timm is not installed or has no such network, or the weights do not fit, with the first
        differences.
    """
    timm = import_timm()
    name = arch.removeprefix("timm/")
    if not timm.is_model(name):
        raise SnojoeError(f"model.arch: timm {timm.__version__} has no network {name!r}")
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    sized = {"img_size": image_size} if image_size and known and known.fixed_input_size else {}
    try:
        if weights is None:
            network: nn.Module = timm.create_model(name, num_classes=0, **sized)
            return network
        state = read_state(weights)
        with torch.device("meta"):
            expected = timm.create_model(name, num_classes=0, **sized)
        return _pretrained(timm, name, sized, _of_network(state, expected))
    except SnojoeError as error:
        if weights is None or str(error).startswith(str(weights)):
            raise
        raise SnojoeError(f"{weights}: does not fit {arch} {error}") from None
    except Exception as error:  # whatever a network's own code raises
        size = f" for images of {image_size} pixels" if sized else ""
        raise SnojoeError(f"{arch}: not built{size}: {first_line(error)}") from error


def download_pretrained(arch: str, tag: str, path: Path) -> None:
    """Fetch pretrained weights of ``timm/<name>`` by timm's tag, such as ``in1k``, into a file.

    Raises
    ------
    SnojoeError
        If timm has no such weights, or the download fails.
    """
    from safetensors.torch import save

    timm = import_timm()
    name = arch.removeprefix("timm/")
    known = [each.rpartition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
    if tag not in known:
        raise SnojoeError(
            f"model.weights: expected null, a file, or one of timm's for {arch}: "
            f"{', '.join(known) or 'there are none'}; got {tag!r}"
        )
    try:
        network = timm.create_model(f"{name}.{tag}", pretrained=True)
    except Exception as error:  # timm's downloads raise errors of several libraries
        raise SnojoeError(f"model.weights: {arch} {tag}: {first_line(error)}") from None
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    path.write_bytes(save(state))


def channels(network: Any) -> int:
    """C, the width of `pooled_features`."""
    return int(getattr(network, "head_hidden_size", None) or network.num_features)


def pooled_features(network: Any, images: Tensor) -> Tensor:
    """Normalised images (n, 3, H, W) -> (n, C), what timm's classifier would read."""
    features: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)
    return features


def layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The counted layers: top-level blocks in order, then all of timm's head as one, ``pooling``.

    Blocks that lie together in ``blocks``, ``stages``, ``layers`` or ``features`` count each;
    identities and dropouts do not.
    """
    children = [
        (name, child) for name, child in network.named_children() if not isinstance(child, _IDLE)
    ]
    pooling = next((i for i, (name, _) in enumerate(children) if name in _POOLING), len(children))
    blocks: list[tuple[str, nn.Module]] = []
    for name, child in children[:pooling]:
        if name in _CONTAINERS and isinstance(child, nn.Sequential | nn.ModuleList):
            blocks += [(f"{name}.{inner}", block) for inner, block in child.named_children()]
        else:
            blocks.append((name, child))
    return [*blocks, ("pooling", nn.ModuleList(child for _, child in children[pooling:]))]


@cache
def layer_names(arch: str) -> tuple[str, ...]:
    """Names of the counted layers of ``timm/<name>``, the head of this project left out."""
    with torch.device("meta"):
        return tuple(name for name, _ in layers(build(arch)))


def _of_network(state: State, expected: nn.Module) -> State:
    """What a checkpoint has of a network, without a prefix; as it is where the names are others."""
    names = expected.state_dict()
    found = stripped(state, names)
    if not names.keys() <= found.keys():
        return found
    top = {name for name, _ in expected.named_children()} | {*expected._parameters}
    return {name: tensor for name, tensor in found.items() if name.split(".", 1)[0] in top}


def _pretrained(timm: Any, name: str, sized: dict[str, Any], state: State) -> nn.Module:
    """The network with a state, which timm renames and resizes; strictly, classifier and all."""
    classifier = timm.get_pretrained_cfg(name, allow_unregistered=True).classifier
    first = classifier[0] if isinstance(classifier, tuple | list) else classifier
    head = state.get(f"{first}.weight")
    classes = 0 if head is None else len(head)
    # timm is strict only where the number of classes is that of the description.
    described = {"state_dict": state, "num_classes": classes, "label_offset": 0}
    try:
        network = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=described, num_classes=classes, **sized
        )
    except RuntimeError as error:
        check_same(*_differences(str(error)))
        raise
    network.reset_classifier(0)
    return network


def _differences(message: str) -> tuple[list[str], list[str], list[str]]:
    """Missing, unexpected and different names in the message of ``load_state_dict``."""
    found: dict[str, list[str]] = {"Missing": [], "Unexpected": []}
    for line in message.splitlines():
        kind, _, rest = line.strip().partition(" key(s) in state_dict: ")
        if kind in found:
            found[kind] = re.findall(r'"([^"]+)"', rest)
    shapes = re.findall(
        r"size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)", message
    )
    different = [f"{name} is ({found}), expected ({expected})" for name, found, expected in shapes]
    return found["Missing"], found["Unexpected"], different
