"""The supported trunks and their counted layers, without importing torch for torchvision's.

The paper speaks of "the first 9 layers" of a ResNet-101. The only counting in which the ninth is
average pooling, as it hints, is the index into torchvision's top-level children: 1 conv1, 2 bn1,
3 relu, 4 maxpool, 5..8 layer1..layer4, 9 avgpool, 10 the head. The other trunks follow the same
rule: top-level blocks in order, then pooling, then the head. timm's are in
`snojoe.model.timm_networks`.
"""

_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_DENSENET = (
    *("conv0", "norm0", "relu0", "pool0"),
    *("denseblock1", "transition1", "denseblock2", "transition2", "denseblock3", "transition3"),
    *("denseblock4", "norm5"),
)

TRUNKS: dict[str, tuple[str, ...]] = {
    "resnet10": _RESNET,
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "resnet101": _RESNET,
    "resnet152": _RESNET,
    "densenet121": _DENSENET,
    "mobilenet_v2": tuple(f"block{i}" for i in range(19)),
}
"""Names of the trunk's top-level blocks, from the input on."""

LEAST_SIZE = dict.fromkeys(TRUNKS, 16) | {"densenet121": 29}
"""Edge of the smallest image, in pixels. The poolings between DenseNet's blocks have no padding: of
28 pixels nothing is left for the last. The others would take less."""


OWN = "own"
"""The architecture of a network that is trained already: `snojoe.model.own_network`."""


def is_timm(arch: str) -> bool:
    """Whether a trunk is one of timm's: ``timm/<name>``."""
    return arch.startswith("timm/")


def layer_names(arch: str) -> list[str]:
    """Names of the counted layers; ``sn_layers=L`` normalises what lies in the first L.

    Those of timm's networks are read off the network, which imports torch.

    Raises
    ------
    SnojoeError
        If timm is not installed or has no such network.
    """
    if arch == OWN:
        return ["network"]
    if not is_timm(arch):
        return [*TRUNKS[arch], "avgpool", "head"]
    from snojoe.model import timm_networks

    return [*timm_networks.layer_names(arch), "head"]
