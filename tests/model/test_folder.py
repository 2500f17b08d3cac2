import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import model_config, model_folder

import snojoe
from snojoe.detectors.outputs import load_head
from snojoe.model.classifier import build_classifier
from snojoe.model.folder import (
    check_model,
    load_model,
    read_config,
    read_history,
    read_sigmas,
    read_val_energies,
    save_model,
)
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_sums

OLD = Path(__file__).parent / "folder-0.1.0"


def save(folder, classes, outputs=None, **tables):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = build_classifier("resnet10", outputs or len(classes)).eval()
    config = model_config(classes)
    save_model(model, folder, config, np.arange(50.0), **tables)
    return model, config


def test_a_model_directory_gives_everything_back(tmp_path):
    history, sigmas = [{"epoch": 1, "val_map": 0.5}], [{"epoch": 0, "sigma": 1.5}]
    model, config = save(tmp_path, "abc", history=history, sigmas=sigmas)
    loaded, known = load_model(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
        hidden = model.outputs(images).hidden.numpy()
        np.testing.assert_allclose(
            load_head(tmp_path).logits(hidden), model(images).numpy(), rtol=1e-5, atol=1e-6
        )
    assert known == read_config(tmp_path) == config
    np.testing.assert_array_equal(read_val_energies(tmp_path), np.arange(50.0))
    assert read_history(tmp_path).to_dict("records") == history
    assert read_sigmas(tmp_path).to_dict("records") == sigmas
    check_model(tmp_path)
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1  # who may read the one may read the other


def test_two_files_are_a_model_directory(tmp_path):
    save(tmp_path / "model", "abc")
    (tmp_path / "copy").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "model" / name, tmp_path / "copy")
    load_model(tmp_path / "copy")
    (tmp_path / "model" / "history.csv").write_text("not copied")
    write_sums(tmp_path / "model")
    shutil.copy(tmp_path / "model" / "SHA256SUMS", tmp_path / "copy")
    load_model(tmp_path / "copy")


def test_a_damaged_model_directory_is_named(tmp_path):
    with pytest.raises(SnojoeError, match=r"not a model directory: .*config\.json is missing"):
        load_model(tmp_path)
    save(tmp_path, "ab", outputs=3)
    with pytest.raises(SnojoeError, match="damaged model directory"):
        load_model(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"b"', '"c"'))
    with pytest.raises(SnojoeError, match=r"config\.json: damaged; SHA256SUMS has another sum"):
        load_model(tmp_path)
    for name in ("SHA256SUMS", "model.safetensors"):
        (tmp_path / name).unlink()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(SnojoeError, match=r"directory: .*model\.safetensors is missing"):
        load_model(tmp_path)
    with pytest.raises(SnojoeError, match=r"model\.safetensors: not a readable model"):
        load_head(tmp_path)
    with pytest.raises(SnojoeError, match="not a model to detect with"):
        read_val_energies(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "this version has no model format 2"),
        ({"seed": "one"}, r"config\.json: not readable \(seed: "),
        ({"classes": []}, r"config\.json: not readable \(classes: "),
        ({"classes": ["a", "c"]}, r"label_thresholds: expected one for each class"),
    ],
)
def test_a_config_that_does_not_fit_is_named(tmp_path, changes, message):
    save(tmp_path, "ab")
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["format"] == 1
    (tmp_path / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(SnojoeError, match=message):
        read_config(tmp_path)


def test_a_folder_of_version_0_1_0_detects_as_it_did(tmp_path):
    """Written by that version's own code; `detected.json` is what its detector then said.

    97% of the weights are zero, so that it compresses to a size for a repository.
    """
    shutil.copytree(OLD, tmp_path / "old")
    weights = tmp_path / "old/model.safetensors"
    weights.write_bytes(lzma.decompress((OLD / "model.safetensors.xz").read_bytes()))
    assert "format" not in json.loads((OLD / "config.json").read_text())
    check_model(tmp_path / "old")
    assert read_config(tmp_path / "old").format == 1
    assert len(read_history(tmp_path / "old")) == len(read_sigmas(tmp_path / "old")) == 1

    detector = snojoe.load_detector(tmp_path / "old")
    expected = json.loads((OLD / "detected.json").read_text())
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    (found,) = detector([pixels])
    # Today's rule, at the conformal rank, lets one val image more in.
    energies = read_val_energies(tmp_path / "old")
    accepted = [np.sum(energies >= tau) for tau in (detector.decision.tau, expected["tau"])]
    assert accepted[0] == accepted[1] + 1
    assert found.energy == pytest.approx(expected["energy"], rel=1e-4)
    assert found.in_distribution == expected["in_distribution"]
    assert found.labels == expected["labels"]
    assert found.probabilities == pytest.approx(expected["probabilities"], rel=1e-4)


def test_what_is_written_today_has_the_same_names(tmp_path):
    today = model_folder(tmp_path / "today")
    old, new = (json.loads((f / "config.json").read_text()) for f in (OLD, today))
    assert list(new) == ["format", *old]
