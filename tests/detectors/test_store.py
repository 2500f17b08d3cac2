"""A folder of one model's detectors."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save, save_file

from snojoe.detectors import LinearHead, ModelOutputs, fit_detector
from snojoe.detectors.store import keep_detector, read_store, write_store
from snojoe.support.errors import SnojoeError
from snojoe.support.files import check_sums, write_sums


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    hidden = np.abs(rng.normal(size=(60, 6)))
    outputs = ModelOutputs(rng.normal(size=(60, 3)), rng.normal(size=(60, 4)), hidden)
    head = LinearHead(rng.normal(size=(3, 6)), np.zeros(3))
    for name in ("knn", "react"):
        keep_detector(tmp_path, fit_detector(name, outputs, outputs, head))
    measured = {"knn": {"id": np.arange(4.0), "far": np.arange(3.0)}}
    write_store(tmp_path, measured, model="m", val="v")
    return tmp_path


def test_it_gives_back_what_was_written(folder):
    check_sums(folder)
    store = read_store(folder)
    assert (store.model, store.val) == ("m", "v")
    assert {name: each.tolist() for name, each in store.measured["knn"].items()} == {
        "far": [0, 1, 2],
        "id": [0, 1, 2, 3],
    }
    assert store.detector("knn").name == "knn"
    with pytest.raises(SnojoeError, match="has no detector vim; there are knn, react"):
        store.detector("vim")


def test_damage_is_named(folder, tmp_path_factory):
    store = read_store(folder)
    (folder / "knn.safetensors").write_bytes(b"x")
    with pytest.raises(SnojoeError, match=r"knn.safetensors: damaged"):
        store.detector("knn")
    assert store.detector("react").name == "react"
    save_file({}, folder / "measured.safetensors")
    with pytest.raises(SnojoeError, match=r"measured.safetensors: damaged"):
        read_store(folder)
    write_sums(folder)
    with pytest.raises(SnojoeError, match=r"measured.safetensors: not readable"):
        read_store(folder)
    with pytest.raises(SnojoeError, match="not a folder that this program wrote"):
        read_store(tmp_path_factory.mktemp("empty"))


def test_another_version_is_named(folder, monkeypatch):
    monkeypatch.setattr("snojoe.detectors.store.FORMAT", 2)
    with pytest.raises(SnojoeError, match="this version has no store format 1"):
        read_store(folder)


def test_a_store_without_noise_is_read_as_before(tmp_path):
    write_store(tmp_path, {"max_logit": {"id": np.ones(2)}}, model="m", val="v")
    path = tmp_path / "measured.safetensors"
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["snojoe.measured"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["noise"]
    path.write_bytes(save(arrays, metadata={"snojoe.measured": json.dumps(header)}))
    write_sums(tmp_path)
    store = read_store(tmp_path)
    assert store.noise == {}
    assert store.measured["max_logit"]["id"].tolist() == [1, 1]
