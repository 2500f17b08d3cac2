import pytest
import torch
from torch import nn
from torchvision import models as zoo

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm import apply_spectral_norm, layer_indices, normalized_weights


@pytest.fixture(scope="module")
def resnet101():
    with torch.device("meta"):
        return build_classifier("resnet101", 20)


@pytest.mark.parametrize(("sn_layers", "weights"), [(0, 0), (1, 1), (4, 1), (7, 94), (10, 106)])
def test_number_of_normalised_weights_of_a_resnet_101(resnet101, sn_layers, weights):
    assert len(normalized_weights(resnet101, sn_layers)) == weights


@pytest.mark.parametrize("arch", ["resnet10", "resnet18", "resnet101"])
def test_depths_8_and_9_of_a_resnet_are_the_same_weights(arch):
    with torch.device("meta"):
        model = build_classifier(arch, 3)
    assert normalized_weights(model, 8) == normalized_weights(model, 9)


def test_a_plain_torchvision_resnet_counts_alike(resnet101):
    with torch.device("meta"):
        plain = zoo.resnet101()
    ours = [name.removeprefix("trunk.") for name in normalized_weights(resnet101, 9)]
    assert normalized_weights(plain, 9) == ours


def test_weights_are_in_the_order_of_the_layers(resnet101):
    indices = list(layer_indices(resnet101).values())
    assert indices == sorted(indices)


def test_names_stay_when_the_weights_are_normalised():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    names = normalized_weights(model, 3)
    apply_spectral_norm(model, 3)
    assert normalized_weights(model, 3) == names == ["0.weight", "2.weight"]


def test_a_layers_attribute_that_is_no_method_is_not_called():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2)])

    assert normalized_weights(Model(), 1) == ["layers.0.weight"]


@pytest.mark.parametrize("sn_layers", [-1, 11, 99, 2.0, True, None, "eleven"])
def test_bad_depths_are_named(resnet101, sn_layers):
    with pytest.raises(ValueError, match=rf"sn_layers={sn_layers!r}.* from 0 to 10"):
        normalized_weights(resnet101, sn_layers)
