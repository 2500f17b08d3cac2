import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from committed import committed
from conftest import jpeg

import snojoe
from snojoe.data.shards import ShardRow, write_shards
from snojoe.experiment import Folders
from snojoe.model.folder import check_model, load_model, read_config, read_history, read_sigmas
from snojoe.params import Params
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
    assert list(checkpoints.iterdir()) == []
    check_model(model)
    config = load_model(model)[1]
    assert config == read_config(model)
    assert (config.sn_layers, config.normalized_weights, config.seed) == (9, 12, 3)
    assert config.train == params.train.model_dump()
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
    assert len(list(checkpoints.iterdir())) == 1
    capsys.readouterr()
    train_model(params, 9, 3, folders, checkpoints)
    assert capsys.readouterr().out.startswith("resuming after epoch 1 of 2\n")
    assert files(model) == undisturbed
    assert list(checkpoints.iterdir()) == []


def test_of_several_processes_only_the_first_writes(params, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    train_model(params, 0, 0, folders, tmp_path / "checkpoints")
    assert capsys.readouterr().out == ""
    assert not folders.models.exists()
