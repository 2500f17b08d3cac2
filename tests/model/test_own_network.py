"""A network that is trained already, as a model of this program."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import model_config

import snojoe
from snojoe.cli import main
from snojoe.detectors.outputs import load_head
from snojoe.model.decision import fit_decision
from snojoe.model.folder import load_model, save_model
from snojoe.model.own_network import build_own, check_own
from snojoe.params import load_params
from snojoe.support.errors import SnojoeError

CODE = """
from types import SimpleNamespace
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(6, 4)
    def forward(self, x):
        return SimpleNamespace(logits=self.fc(self.body(x).flatten(1)))

def make():
    torch.manual_seed(0)
    return Net()

def mlp():
    net = make()
    net.fc = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    return net

def scripted():
    return torch.jit.script(nn.Linear(2, 2))

def wrong():
    return 3

def fails():
    raise RuntimeError("no such luck")
"""
CLASSES = ["cat", "dog", "cow"]  # of the data; the network has one more, in another order
OWN = {
    "network": "net.py:make",
    "classes": ["cow", "bird", "cat", "dog"],
    "head": "fc",
    "features": None,
}
IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(CODE)
    return path


def test_logits_come_in_the_order_of_the_data(code):
    model = build_own(code, OWN, CLASSES)
    with torch.no_grad():
        theirs = model.network(IMAGES).logits
        found = model.outputs(IMAGES)
        hidden = model.network.body(IMAGES).flatten(1)
    assert torch.equal(found.logits, theirs[:, [2, 3, 0]])
    assert torch.equal(found.hidden, hidden)
    assert torch.equal(found.features, hidden)
    weight, bias = model.linear_head()
    torch.testing.assert_close(hidden @ weight.T + bias, found.logits)
    check_own(model, OWN, 16)


def test_a_head_that_is_not_linear_leaves_its_input_out(code):
    own = OWN | {"network": "net.py:mlp", "head": None, "features": "body"}
    model = build_own(code, own, CLASSES)
    found = model.outputs(IMAGES)
    assert found.hidden.shape == (5, 0)
    assert found.features.shape == (5, 6)
    check_own(model, own, 16)
    assert [tuple(each.shape) for each in model.linear_head()] == [(3, 0), (3,)]


def test_a_checkpoint_is_taken_as_it_comes(code, tmp_path):
    state = {
        f"module.{n}": v + 1 for n, v in build_own(code, OWN, CLASSES).network.state_dict().items()
    }
    torch.save({"model": state}, tmp_path / "w.pth")
    model = build_own(code, OWN, CLASSES, tmp_path / "w.pth")
    assert torch.equal(model.network.fc.bias, state["module.fc.bias"])
    del state["module.fc.bias"]
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(SnojoeError, match=r"w\.pth: does not fit the network .*missing: fc\.bias"):
        build_own(code, OWN, CLASSES, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "net.py:gone"}, r"net\.py: gone: AttributeError"),
        ({"network": "net.py:fails"}, r"net\.py: fails: RuntimeError: no such luck"),
        ({"network": "net.py:wrong"}, "wrong gives int, not an nn.Module"),
        ({"network": "net.py:scripted"}, "scripted gives TorchScript, which cannot be hooked"),
        (
            {"head": "classifier"},
            r"own\.head: no module 'classifier' in Net; its last linear layers are fc",
        ),
        ({"head": "body"}, r"own\.head: expected a linear layer; body is Sequential"),
        (
            {"classes": ["cow", "cat"]},
            r"own\.classes: expected all classes of the data; missing dog",
        ),
        ({"network": "net.py:mlp", "head": "fc.0"}, r"own\.head: fc\.0 does not give the logits"),
        ({"classes": [*CLASSES, "a", "b"]}, r"own\.classes: 5 for logits of shape \(2, 4\)"),
        ({"features": "body.0"}, r"own\.features: expected \(n, D\); got \(2, 6, 4, 4\)"),
    ],
)
def test_what_does_not_fit_is_named(code, changes, message):
    own = OWN | changes
    with pytest.raises(SnojoeError, match=message):
        check_own(build_own(code, own, CLASSES), own, 16)


@pytest.fixture
def folder(code, tmp_path):
    """A model directory of such a network."""
    labels = np.tile(np.eye(3, dtype=int), (10, 1))
    logits = np.random.default_rng(0).normal(size=(30, 3))
    fitted, energies = fit_decision(
        CLASSES, [str(i) for i in range(30)], labels, logits, np.arange(30) % 3 > 0
    )
    target = tmp_path / "model"
    target.mkdir()
    (target / "network.py").write_text(CODE)
    model = {"arch": "own", "weights": None, "own": OWN}
    config = model_config(CLASSES, arch="own", model=model, **fitted)
    save_model(build_own(code, OWN, CLASSES), target, config, energies)
    return target


def test_a_directory_runs_its_code_only_where_it_may(folder, tmp_path, capsys):
    with pytest.raises(SnojoeError, match="it is run only where you allow it: run_code=True"):
        load_model(folder)
    with pytest.raises(SnojoeError, match="run_code"):
        snojoe.load_detector(folder)
    model, _ = load_model(folder, run_code=True)
    assert torch.equal(model(IMAGES), build_own(tmp_path / "net.py", OWN, CLASSES)(IMAGES))
    image = np.zeros((20, 30, 3), np.uint8)
    (found,) = snojoe.load_detector(folder, run_code=True)([image])
    assert list(found.probabilities) == CLASSES
    head = load_head(folder)
    hidden = model.outputs(IMAGES).hidden.detach().numpy()
    np.testing.assert_allclose(head.logits(hidden), model(IMAGES).detach(), rtol=1e-5, atol=1e-6)
    assert main(["detect", "x.png", "--model", str(folder)]) == 2
    assert "--run-code" in capsys.readouterr().err


def test_edited_code_is_not_run(folder):
    (folder / "network.py").write_text("raise SystemExit('run')")
    with pytest.raises(SnojoeError, match=r"network\.py"):
        load_model(folder, run_code=True)


def test_it_is_exported(folder, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    from snojoe.detect.export import TOLERANCE, export_onnx

    assert export_onnx(folder, tmp_path / "m.onnx", 0.95, run_code=True) <= TOLERANCE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 1}, r"train\.epochs: expected 0 for model\.arch: own"),
        ({"depth": 9}, "sn_layers: expected 0, and no other depth, for model.arch: own"),
        ({"seeds": [0, 1]}, r"seeds: expected one for model\.arch: own"),
        ({"own": None}, "own: expected it for arch: own, and for no other"),
        ({"own": {"network": "net.py:make"}}, "expected head, the last linear layer, or features"),
        ({"own": {"network": "net:make", "head": "fc"}}, "model.own.network: string should match"),
        ({"own": {"network": "../n.py:f", "head": "fc"}}, "inside data.folder"),
    ],
)
def test_the_parameters_of_such_a_network(changes, message, tmp_path):
    tree = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    values = {"epochs": 0, "depth": 0, "seeds": [0], "own": {"network": "n.py:f", "head": "fc"}}

    def load(values):
        tree["model"] = {"arch": "own", "weights": None, "own": values["own"]}
        tree["train"]["epochs"], tree["seeds"] = values["epochs"], values["seeds"]
        tree["sn_layers"], tree["ablation"]["sn_layers"] = values["depth"], [0, 0, 0, 0]
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return load_params(tmp_path / "params.yaml")

    assert load(values).depths == [0]
    with pytest.raises(SnojoeError, match=message):
        load(values | changes)
