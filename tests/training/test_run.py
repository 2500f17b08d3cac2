import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from committed import committed
from conftest import jpeg

import snojoe
from snojoe.data.shards import ShardRow, write_shards
from snojoe.detect.export import TOLERANCE, export_onnx
from snojoe.detectors import DETECTORS, fit_detector
from snojoe.detectors.outputs import load_head, load_outputs
from snojoe.experiment import Folders
from snojoe.inference.infer import infer_id, infer_ood
from snojoe.model.architectures import layer_names
from snojoe.model.folder import check_model, load_model, read_config, read_history, read_sigmas
from snojoe.params import Params
from snojoe.support.errors import SnojoeError
from snojoe.training import loop
from snojoe.training.run import train_model

ROOT = Path(__file__).parents[2]
SIZE = 16


@pytest.fixture(scope="module")
def params():
    tree = yaml.safe_load(committed("params.yaml"))
    tree["data"]["image_size"] = SIZE
    tree["train"] |= {"epochs": 2, "batch_size": 8, "freeze_after_epoch": 1}
    return Params.model_validate(tree)


@pytest.fixture
def folders(tmp_path):
    found = Folders(tmp_path)
    labels = [np.array([i % 2, 1 - i % 2]) for i in range(24)]
    images = [ShardRow(f"a/{i}", jpeg(i, (SIZE, SIZE)), labels[i]) for i in range(24)]
    pixels = np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3), dtype=np.uint8)
    val = [ShardRow(f"a/{i}", pixels[i].tobytes(), labels[i]) for i in range(24)]
    for name, rows, content in (("train", images, "image"), ("val", val, "pixels")):
        folder = found.prepared / name
        write_shards(folder, rows, split=name, content=content, image_size=SIZE)
    (found.prepared / "classes.json").write_text('["cat", "dog"]')
    found.weights.mkdir(parents=True)
    return found


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_folder_is_written_and_the_same_after_an_interruption(
    params, folders, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    checkpoints, model = tmp_path / "checkpoints", tmp_path / "models/sn9/seed3"
    train_model(params, 9, 3, folders, checkpoints)
    undisturbed = files(model)
    assert list(checkpoints.glob("*.pt")) == []
    check_model(model)
    config = load_model(model)[1]
    assert config == read_config(model)
    assert (config.sn_layers, config.normalized_weights, config.seed) == (9, 12, 3)
    assert config.train == params.train.model_dump(exclude={"loss", "outliers"})  # as earlier ones
    assert json.loads(undisturbed["config.json"])["format"] == 1
    assert read_history(model).epoch.tolist() == [1, 2]
    assert set(read_sigmas(model).epoch) == {0, 1, 2}
    assert snojoe.load_detector(model).decision.tau == pytest.approx(config.threshold.tau)

    def interrupt(row, *_):
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        return "first epoch"

    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_model(params, 9, 3, folders, checkpoints)
    assert len(list(checkpoints.glob("*.pt"))) == 1
    capsys.readouterr()
    train_model(params, 9, 3, folders, checkpoints)
    assert capsys.readouterr().out.startswith("resuming after epoch 1 of 2\n")
    assert files(model) == undisturbed
    assert list(checkpoints.glob("*.pt")) == []


def test_what_normalises_the_same_weights_is_trained_once(
    params, folders, tmp_path, monkeypatch, capsys
):
    checkpoints = tmp_path / "checkpoints"
    train_model(params, 9, 3, folders, checkpoints)
    trained = files(folders.model(9, 3))
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("snojoe.training.run.train_classifier", None)
        train_model(params, 8, 3, folders, checkpoints)
    assert capsys.readouterr().out.startswith("depth 8 normalises the weights of ")
    copy = files(folders.model(8, 3))
    check_model(folders.model(8, 3))
    assert read_config(folders.model(8, 3)).sn_layers == 8
    shutil.rmtree(tmp_path / "checkpoints")
    train_model(params, 8, 3, folders, checkpoints)
    assert files(folders.model(8, 3)) == copy
    assert [name for name in copy if copy[name] != trained[name]] == ["SHA256SUMS", "config.json"]
    train_model(params, 7, 3, folders, checkpoints)
    assert files(folders.model(7, 3))["model.safetensors"] != copy["model.safetensors"]


def test_what_else_was_asked_of_a_training_stands_in_its_folder(params, folders, tmp_path):
    tree = params.model_dump()
    tree["data"]["outliers"] = {"path": "mine"}
    tree["train"] |= {"loss": "asymmetric", "outliers": "auxiliary", "epochs": 1}
    asked = Params.model_validate(tree)
    with pytest.raises(SnojoeError, match=r"train/outliers: .*SHA256SUMS is missing"):
        train_model(asked, 0, 0, folders, tmp_path / "checkpoints")
    rows = [ShardRow(f"b/{i}", jpeg(50 + i, (SIZE, SIZE)), None) for i in range(3)]
    write_shards(folders.outliers, rows, split="train", content="image", image_size=SIZE)
    train_model(asked, 0, 0, folders, tmp_path / "checkpoints")
    config = read_config(folders.model(0, 0))
    assert (config.train["loss"], config.train["outliers"]) == ("asymmetric", "auxiliary")
    assert not config.saw_pseudo_ood


def test_of_several_processes_only_the_first_writes(params, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    train_model(params, 0, 0, folders, tmp_path / "checkpoints")
    assert capsys.readouterr().out == ""
    assert not folders.models.exists()


@pytest.mark.slow
def test_a_vision_transformer_goes_all_the_way(folders, tmp_path):
    pytest.importorskip("timm")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    tree = yaml.safe_load(committed("params.yaml"))
    tree["data"]["image_size"] = SIZE
    tree["model"] = {"arch": "timm/test_vit", "weights": None}
    tree["train"] |= {"epochs": 2, "batch_size": 8, "freeze_after_epoch": 1}
    tree["infer"]["tune"] = True
    tree["seeds"] = [0]
    tree["sn_layers"] = depth = len(layer_names("timm/test_vit"))
    shutil.copytree(folders.prepared / "val", folders.prepared / "test")
    for name in tree["data"]["ood"]:
        shutil.copytree(folders.prepared / "val", folders.prepared / "ood" / name)
    params = Params.model_validate(tree)
    for sn_layers in (0, depth):
        train_model(params, sn_layers, 0, folders, tmp_path / "checkpoints")
        infer_id(params, folders, sn_layers)
        infer_ood(params, folders, sn_layers)
    model = folders.model(depth, 0)
    sigmas = read_sigmas(model)
    last = sigmas[sigmas.epoch == 2]
    assert last.normalized.all()
    assert last.sigma.to_numpy() == pytest.approx(1, rel=1e-2)
    assert any("attn.qkv" in name for name in last.weight)
    splits = [load_outputs(folders.outputs(depth, 0, name)) for name in ("train", "val")]
    for name in DETECTORS:
        detector = fit_detector(name, *splits, load_head(model))
        assert np.isfinite(detector.score_outputs(splits[1])).all()
    (found,) = snojoe.load_detector(model)([np.zeros((30, 20, 3), np.uint8)])
    assert set(found.probabilities) == {"cat", "dog"}
    assert export_onnx(model, tmp_path / "vit.onnx", 0.95) <= TOLERANCE


def test_a_network_that_is_trained_already_is_taken_as_it_is(folders):
    tree = yaml.safe_load(committed("params.yaml"))
    own = {"network": "net.py:make", "classes": ["dog", "cat"], "head": "fc"}
    tree["data"]["image_size"] = SIZE
    tree["model"] = {"arch": "own", "weights": None, "own": own}
    tree["train"]["epochs"], tree["seeds"], tree["sn_layers"] = 0, [0], 0
    tree["ablation"]["sn_layers"] = [0, 0, 0, 0]
    code = "import torch\nfrom torchvision.models import resnet18\n\n\ndef make():\n"
    code += "    torch.manual_seed(1)\n    return resnet18(num_classes=2)\n"
    (folders.weights / "network.py").write_text(code)
    train_model(Params.model_validate(tree), 0, 0, folders, folders.root / "checkpoints")
    model, config = load_model(folders.model(0, 0), run_code=True)
    assert (config.arch, config.classes, config.normalized_weights) == ("own", ["cat", "dog"], 0)
    assert read_history(folders.model(0, 0)).epoch.tolist() == [0]
    images = torch.randn(3, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(model(images), model.network(images)[:, [1, 0]])
    check_model(folders.model(0, 0))
