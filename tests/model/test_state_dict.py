"""Checkpoints as training scripts save them."""

import argparse
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models as zoo

from snojoe.model.classifier import build_classifier
from snojoe.model.state_dict import read_state, stripped
from snojoe.support.errors import SnojoeError


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return zoo.resnet18()


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def loaded(arch, path):
    return build_classifier(arch, 3, path)


WRAPPED = {
    "plain": lambda s: s,
    "DataParallel": lambda s: {"state_dict": under("module.", s), "epoch": 3},
    "MoCo's": lambda s: {"model": under("module.encoder.", s), "optimizer": {"state": {}}},
    "Lightning": lambda s: {
        "state_dict": {**under("model.", s), "loss.pos_weight": torch.ones(20)},
        "pytorch-lightning_version": "2.4.0",
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    },
    "compiled": lambda s: {"model_state_dict": under("_orig_mod.backbone.", s)},
    "half": lambda s: {n: v.half() if v.is_floating_point() else v for n, v in s.items()},
    "another head": lambda s: {
        **{n: v for n, v in s.items() if not n.startswith("fc.")},
        "fc.0.weight": torch.zeros(7, 512),
        "projector.weight": torch.zeros(2, 2),
    },
    "no head": lambda s: {n: v for n, v in s.items() if not n.startswith("fc.")},
    "without counters": lambda s: {n: v for n, v in s.items() if "num_batches" not in n},
    "options and numbers": lambda s: {
        "state_dict": s,
        "args": argparse.Namespace(lr=0.1, out=Path("runs"), best=Path("a/b.pth")),
        "best": np.float64(0.5),
        "curve": np.zeros(2, np.float32),
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_a_checkpoint_is_taken_as_it_comes(network, how, tmp_path):
    path = tmp_path / "model_best.PTH.TAR"
    torch.save(WRAPPED[how](network.state_dict()), path)
    model = loaded("resnet18", path)
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if how == "half" else {"rtol": 0, "atol": 0}
    for mine, theirs in ((model.trunk.conv1, network.conv1), (model.trunk.bn1, network.bn1)):
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], tensor, **tolerance)
    last = model.trunk.layer4[1].conv2.weight
    torch.testing.assert_close(last, network.layer4[1].conv2.weight, **tolerance)
    assert last.dtype == torch.float32


@pytest.mark.parametrize("name", ["w.bin", "w.ckpt", "W.PT", "w.pth.tar", "w.Safetensors"])
def test_the_content_says_the_format_and_not_the_suffix(network, name, tmp_path):
    for save in (torch.save, save_file):
        save(network.state_dict(), tmp_path / name)
        assert torch.equal(
            loaded("resnet18", tmp_path / name).trunk.conv1.weight, network.conv1.weight
        )


def test_torchvisions_old_names_of_densenet_are_taken(tmp_path):
    network = zoo.densenet121()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor
        for name, tensor in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121-a639ec97.pth")
    model = loaded("densenet121", tmp_path / "densenet121-a639ec97.pth")
    layer = network.features.denseblock4.denselayer16.conv2.weight
    assert torch.equal(model.trunk.denseblock4.denselayer16.conv2.weight, layer)


def test_a_model_of_this_program_is_a_checkpoint_too(network, tmp_path):
    before = loaded("resnet18", None)
    save_file(before.state_dict(), tmp_path / "model.safetensors")
    assert torch.equal(
        loaded("resnet18", tmp_path / "model.safetensors").trunk.conv1.weight,
        before.trunk.conv1.weight,
    )


DIFFERENT = {
    "missing": (
        lambda s: {n: v for n, v in s.items() if n not in ("conv1.weight", "bn1.weight")},
        r"2 differences; 2 missing: conv1\.weight, bn1\.weight\)",
    ),
    "unexpected": (
        lambda s: s | {"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)},
        r"1 unexpected: layer1\.2\.conv1\.weight\)",
    ),
    "shape": (
        lambda s: s | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
        r"conv1\.weight is \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)",
    ),
    "integers": (
        lambda s: s | {"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int8)},
        r"conv1\.weight is \(64, 3, 7, 7\) int8, expected",
    ),
    "two networks": (
        lambda s: under("student.", s) | under("teacher.", s),
        r"two networks fit, under 'student\.' and 'teacher\.'",
    ),
    "another network": (
        lambda s: {"a.weight": torch.zeros(1)},
        r"missing: conv1\.weight, bn1.*\.\.\.\)",
    ),
}


@pytest.mark.parametrize("how", DIFFERENT)
def test_the_first_differences_are_named(network, how, tmp_path):
    change, message = DIFFERENT[how]
    torch.save(change(network.state_dict()), tmp_path / "w.pth")
    with pytest.raises(SnojoeError, match=rf"w\.pth: does not fit resnet18.*{message}"):
        loaded("resnet18", tmp_path / "w.pth")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, r"a pointer of git-LFS.*git lfs pull"),
        (b"\n <!DOCTYPE html><html>Sign in</html>", "a web page, not weights"),
        (b'<?xml version="1.0"?><Error/>', "a web page, not weights"),
        (b"\x10\0\0\0\0\0\0\0{broken", "not a readable state dict"),
        (b"not weights at all", "not a readable state dict"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_recognised(content, message, suffix, tmp_path):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(SnojoeError, match=message) as caught:
        read_state(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_are_named_and_nobody_is_told_to_run_them(zipped, tmp_path):
    torch.save(
        {"model": nn.Linear(2, 2), "args": argparse.Namespace()},
        tmp_path / "whole.pt",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(SnojoeError, match=r"torch\.nn\.modules\.linear\.Linear") as caught:
        read_state(tmp_path / "whole.pt")
    assert "torch.save(model.state_dict()" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert "argparse" not in str(caught.value)


def test_a_plain_pickle_is_no_checkpoint(tmp_path):
    (tmp_path / "w.bin").write_bytes(pickle.dumps({"a": object}))
    with pytest.raises(SnojoeError, match="not a readable state dict") as caught:
        read_state(tmp_path / "w.bin")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("found", [[1, 2], {"epoch": 3}, {"a": {"b": {}}, "c": {}}])
def test_a_file_without_tensors_says_what_it_has(found, tmp_path):
    torch.save(found, tmp_path / "w.pth")
    with pytest.raises(SnojoeError, match=r"expected a state dict \(name -> tensor\); got"):
        read_state(tmp_path / "w.pth")


def test_an_optimisers_state_is_not_the_network(network, tmp_path):
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    saved = {"optimizer": optimizer.state_dict(), "weights": network.state_dict()}
    torch.save(saved, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth").keys() == network.state_dict().keys()


def test_the_prefix_is_the_one_under_which_most_names_lie():
    state = {"a.x.w": 1, "a.x.b": 2, "b.w": 3}
    assert stripped(state, {"w", "b"}) == {"w": 1, "b": 2}
