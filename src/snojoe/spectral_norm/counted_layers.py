"""Which weights are normalised: those inside the first ``sn_layers`` counted layers of a model.

The paper does not say what its "first 9 layers" are. We count a model's top-level blocks, from 1:
for a ResNet conv1, bn1, relu, maxpool, layer1, layer2, layer3, layer4, avgpool and the head. It is
the only counting in which the ninth layer is average pooling, as the paper hints. Layers without
a convolution or linear weight count as well, so depths 8 and 9 normalise the same weights.
"""

from typing import cast

from torch import nn

Weighted = nn.Conv2d | nn.Linear


def counted_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return ``(name, module)`` of the layers that ``sn_layers`` counts, in order.

    They are what the model's own ``layers()`` method says, or else its children: a plain
    torchvision ResNet is counted as in the paper without any preparation.
    """
    layers = getattr(type(model), "layers", None)
    if callable(layers):
        return cast(list[tuple[str, nn.Module]], layers(model))
    return list(model.named_children())


def first_layers(model: nn.Module, sn_layers: int) -> list[nn.Module]:
    """Return the first ``sn_layers`` counted layers.

    Raises
    ------
    ValueError
        If `sn_layers` is not an integer from 0 to the number of counted layers.
    """
    layers = counted_layers(model)
    if type(sn_layers) is not int or not 0 <= sn_layers <= len(layers):
        raise ValueError(
            f"sn_layers={sn_layers!r}: expected an integer from 0 to {len(layers)}, "
            f"the number of counted layers of {type(model).__name__}"
        )
    return [module for _, module in layers[:sn_layers]]


def weighted_modules(model: nn.Module) -> dict[str, Weighted]:
    """Return every convolution and linear module of a model by its qualified name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Weighted)}


def layer_indices(model: nn.Module) -> dict[str, int]:
    """Return the counted layer, from 1, of every convolution and linear module by name."""
    names = {module: name for name, module in weighted_modules(model).items()}
    return {
        names[module]: index
        for index, (_, layer) in enumerate(counted_layers(model), start=1)
        for module in layer.modules()
        if module in names
    }


def normalized_weights(model: nn.Module, sn_layers: int) -> list[str]:
    """Return the names of the weights that ``apply_spectral_norm(model, sn_layers)`` normalises.

    Parameters
    ----------
    model
        Any module; its layers are counted as `counted_layers` says.
    sn_layers
        Depth, from 0 (nothing) to the number of counted layers (everything).

    Returns
    -------
    list of str
        Parameter names of the plain model, such as ``"layer1.0.conv1.weight"``, in the order of
        the counted layers. The same for a model that is normalised already.

    Raises
    ------
    ValueError
        If `sn_layers` is out of range.
    """
    first_layers(model, sn_layers)
    return [f"{name}.weight" for name, index in layer_indices(model).items() if index <= sn_layers]
