"""Networks of timm's as trunks."""

import copy
import pickle

import pytest
import torch
from conftest import model_config
from safetensors.torch import load_file, save_file

from snojoe.model.architectures import layer_names
from snojoe.model.classifier import build_classifier, check_classifier
from snojoe.model.folder import load_model, save_model
from snojoe.model.preprocessing import preprocessing
from snojoe.spectral_norm import (
    apply_spectral_norm,
    fold_spectral_norm,
    normalized_weights,
    spectral_norms,
)
from snojoe.support.errors import SnojoeError
from snojoe.training.batch_norm import share_batch_norm

timm = pytest.importorskip("timm")

CONV, VIT = "timm/tf_efficientnet_lite0", "timm/test_vit"
SIZES = {CONV: 64, VIT: 96, "timm/mobilenetv3_small_050": 64}


def images(arch, n=2):
    return torch.randn(n, 3, SIZES[arch], SIZES[arch], generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def networks():
    """timm's own, with their classifiers."""
    torch.manual_seed(0)
    found = {
        arch: timm.create_model(arch.removeprefix("timm/")).eval() for arch in SIZES if arch != VIT
    }
    return found | {VIT: timm.create_model("test_vit", img_size=96).eval()}


@pytest.mark.parametrize("arch", SIZES)
def test_features_are_what_timms_classifier_reads(arch, networks, tmp_path):
    network = networks[arch]
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = build_classifier(arch, 3, tmp_path / "w.safetensors", SIZES[arch]).eval()
    read = []
    network.get_classifier().register_forward_pre_hook(lambda _, args: read.append(args[0]))
    with torch.no_grad():
        network(images(arch))
        found = model.outputs(images(arch))
        torch.testing.assert_close(found.logits, model(images(arch)))
    assert torch.equal(found.features, read[0])
    assert found.hidden.shape == (2, 1000)


def test_blocks_count_then_pooling_then_the_head():
    assert layer_names(CONV) == [
        *("conv_stem", "bn1"),
        *(f"blocks.{i}" for i in range(7)),
        *("conv_head", "bn2", "pooling", "head"),
    ]
    assert layer_names("timm/vit_tiny_patch16_224") == [
        "patch_embed",
        *(f"blocks.{i}" for i in range(12)),
        *("norm", "pooling", "head"),
    ]
    # As torchvision's: of a ResNet the ninth is pooling.
    assert layer_names("timm/resnet18")[4:] == [
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "pooling",
        "head",
    ]


@pytest.mark.parametrize("arch", SIZES)
def test_every_weight_of_the_network_is_in_one_counted_layer(arch):
    model = build_classifier(arch, 3)
    assert [name for name, _ in model.layers()] == layer_names(arch)
    weights = [
        f"{name}.weight"
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    ]
    assert sorted(normalized_weights(model, len(layer_names(arch)))) == sorted(weights)


@pytest.mark.parametrize("arch", SIZES)
def test_weights_are_normalised_and_folded(arch):
    torch.manual_seed(0)
    model = build_classifier(arch, 3, image_size=SIZES[arch]).eval()
    depth = len(layer_names(arch))
    handle = apply_spectral_norm(model, depth)
    assert len(handle) == len(normalized_weights(model, depth))
    assert all(each.sigma == pytest.approx(1, rel=1e-3) for each in spectral_norms(model))
    with torch.no_grad():
        before = model(images(arch))
        restored = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        assert torch.equal(restored(images(arch)), before)
        fold_spectral_norm(model)
        torch.testing.assert_close(model(images(arch)), before, rtol=1e-4, atol=1e-4)
    assert type(next(iter(model.trunk.children()))) is type(
        next(iter(build_classifier(arch, 3).trunk.children()))
    )


def test_convolutions_that_pad_by_the_image_have_no_operator_norm():
    model = build_classifier(CONV, 3)
    with pytest.raises(ValueError, match="expects zero padding given in pixels, got Conv2dSame"):
        apply_spectral_norm(model, 3, norm="operator", example_input=images(CONV))


def test_layers_that_compute_otherwise_are_refused():
    model = build_classifier("timm/test_nfnet", 3)
    with pytest.raises(ValueError, match="expected a plain Conv2d or Linear, got ScaledStdConv2d"):
        apply_spectral_norm(model, 3)


def test_statistics_are_shared_without_losing_activations():
    model = build_classifier(CONV, 3)
    share_batch_norm(model)
    assert type(model.trunk.bn1).__name__ == "SyncBatchNormAct"
    assert type(model.head.bn) is torch.nn.SyncBatchNorm


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
@pytest.mark.parametrize("classes", [0, 20])
def test_a_checkpoint_is_taken_as_it_comes(prefix, classes, tmp_path):
    network = timm.create_model("test_vit", num_classes=classes)
    state = {f"{prefix}{name}": v.half() for name, v in network.state_dict().items()}
    state["loss.weight"] = torch.zeros(1)
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    model = build_classifier(VIT, 3, tmp_path / "w.ckpt")
    torch.testing.assert_close(model.trunk.pos_embed, network.pos_embed, rtol=1e-3, atol=1e-3)
    assert model.trunk.pos_embed.dtype == torch.float32


def test_positions_are_interpolated_to_the_size_of_the_images(tmp_path):
    network = timm.create_model("test_vit")  # 160 pixels
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = build_classifier(VIT, 3, tmp_path / "w.safetensors", 96).eval()
    assert model.trunk.pos_embed.shape[1] < network.pos_embed.shape[1]
    assert model(images(VIT)).shape == (2, 3)
    assert torch.equal(model.trunk.blocks[0].attn.qkv.weight, network.blocks[0].attn.qkv.weight)


def test_the_first_differences_are_named(tmp_path):
    state = timm.create_model("test_vit").state_dict()
    del state["norm.weight"]
    state["blocks.0.mlp.fc1.weight"] = torch.zeros(2, 2)
    state["blocks.9.norm1.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(SnojoeError) as caught:
        build_classifier(VIT, 3, tmp_path / "w.pth")
    for part in (
        "w.pth: does not fit timm/test_vit (3 differences",
        "1 missing: norm.weight",
        "1 unexpected: blocks.9.norm1.weight",
        "blocks.0.mlp.fc1.weight is (2, 2), expected",
    ):
        assert part in str(caught.value)


def test_weights_of_another_network_do_not_fit(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(SnojoeError, match=r"w\.pth: does not fit timm/test_vit \(\d+ differences"):
        build_classifier(VIT, 3, tmp_path / "w.pth")


@pytest.mark.parametrize("arch", ["timm/no_such_network", "timm/"])
def test_an_unknown_network_is_named(arch):
    with pytest.raises(SnojoeError, match=r"model\.arch: timm .* has no network"):
        build_classifier(arch, 3)


def test_depth_and_size_are_checked_before_anything_starts():
    model = build_classifier(CONV, 3)
    check_classifier(model, CONV, [0, 13], 32)
    with pytest.raises(SnojoeError, match=r"sn_layers: expected 0 to 13 for timm/.*; got 14"):
        check_classifier(model, CONV, [0, 14], 32)
    with pytest.raises(
        SnojoeError, match=r"data\.image_size: timm/test_vit does not take .* 50 pix"
    ):
        check_classifier(build_classifier(VIT, 3), VIT, [0], 50)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(SnojoeError, match=r"takes the extra: pip install 'snojoe\[timm\]'"):
        build_classifier(CONV, 3)


def test_a_model_folder_holds_all_of_it(tmp_path):
    model = build_classifier(VIT, 3, image_size=96).eval()
    config = model_config(
        ["a", "b", "c"], arch=VIT, preprocessing=preprocessing(96), model={"arch": VIT}
    )
    save_model(model, tmp_path, config, torch.zeros(5).double().numpy())
    restored, _ = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(restored(images(VIT)), model(images(VIT)))
    assert "trunk.pos_embed" in load_file(tmp_path / "model.safetensors")
