import pytest
import torch
from safetensors.torch import save_file
from torchvision import models as zoo

from snojoe.model.architectures import LEAST_SIZE, layer_names
from snojoe.model.classifier import Unfilled, build_classifier
from snojoe.support.errors import SnojoeError

# The plain pooled features of torchvision's own networks.
FEATURES = {
    "resnet18": lambda net, x: torch.nn.Sequential(*list(net.children())[:-1])(x).flatten(1),
    "densenet121": lambda net, x: torch.relu(net.features(x)).mean((2, 3)),
    "mobilenet_v2": lambda net, x: net.features(x).mean((2, 3)),
}


@pytest.mark.parametrize("arch", ["resnet10", "resnet101", "densenet121", "mobilenet_v2"])
def test_layers_are_named_as_they_are_counted(arch):
    with torch.device("meta"):
        model = build_classifier(arch, 3)
    assert [name for name, _ in model.layers()] == layer_names(arch)


def test_a_resnet_101_counts_as_in_the_paper():
    with torch.device("meta"):
        layers = build_classifier("resnet101", 20).layers()
    convolutions = [
        sum(isinstance(m, torch.nn.Conv2d) for m in block.modules()) for _, block in layers
    ]
    assert layers[8][0] == "avgpool"
    assert sum(convolutions[:7]) == 94
    assert sum(convolutions) == 104


@pytest.mark.parametrize("arch", FEATURES)
def test_the_trunk_is_torchvisions(arch, tmp_path):
    torch.manual_seed(0)
    network = zoo.get_model(arch, weights=None).eval()
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    model = build_classifier(arch, 3, path).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        outputs = model.outputs(images)
        torch.testing.assert_close(outputs.features, FEATURES[arch](network, images))
        torch.testing.assert_close(outputs.logits, model(images))
        torch.testing.assert_close(outputs.logits, model.head[-1](outputs.hidden))
    assert outputs.hidden.shape == (2, 1000)


@pytest.mark.parametrize("arch", ["resnet10", "resnet50", "densenet121", "mobilenet_v2"])
def test_a_trunk_takes_its_least_image(arch):
    model = build_classifier(arch, 3).train()
    size = LEAST_SIZE[arch]
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 3)
    if size > min(LEAST_SIZE.values()):
        with pytest.raises(RuntimeError, match="Output size is too small"):
            model(torch.zeros(2, 3, size - 1, size - 1))


@pytest.mark.parametrize("arch", ["resnet10", *FEATURES])
def test_nothing_is_drawn_for_a_network_that_is_given_its_weights(arch):
    drawn = build_classifier(arch, 3).eval()
    before = torch.get_rng_state()
    with Unfilled():
        model = build_classifier(arch, 3).eval()
    assert torch.equal(torch.get_rng_state(), before)
    model.load_state_dict(drawn.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(images), drawn(images))


def test_safetensors_weights_load_too(tmp_path):
    network = zoo.resnet18()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = build_classifier("resnet18", 3, tmp_path / "w.safetensors")
    torch.testing.assert_close(model.trunk.conv1.weight, network.conv1.weight)


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(zoo.resnet18().state_dict(), path)
    with pytest.raises(SnojoeError, match=r"resnet18\.pth: does not fit resnet34 \(\d+ differ"):
        build_classifier("resnet34", 3, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable state dict"),
        (b"PK\x03\x04 broken", "not a readable state dict"),
    ],
)
def test_damaged_weights_are_named(tmp_path, content, message):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(SnojoeError, match=rf"w\.pth: {message}"):
        build_classifier("resnet18", 3, path)


def test_weights_with_code_in_them_are_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("executed",))

    path = tmp_path / "w.pth"
    torch.save({"a": Bomb()}, path)
    with pytest.raises(SnojoeError, match="not a readable state dict"):
        build_classifier("resnet18", 3, path)


def test_missing_weights_and_unknown_names_are_named(tmp_path):
    with pytest.raises(SnojoeError, match=r"none\.pth: no such weights file"):
        build_classifier("resnet18", 3, tmp_path / "none.pth")
    with pytest.raises(SnojoeError, match="torchvision name for resnet18; got 'IMAGENET9'"):
        build_classifier("resnet18", 3, "IMAGENET9")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"arch: expected one of resnet10, .*; got 'vgg16'"):
        build_classifier("vgg16", 3)
    with pytest.raises(ValueError, match="num_classes: expected at least 1; got 0"):
        build_classifier("resnet10", 0)
