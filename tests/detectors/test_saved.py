"""A fitted detector as one file."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.neighbors import NearestNeighbors

from snojoe.detectors import (
    DETECTORS,
    IsolationForest,
    JointEnergy,
    LinearHead,
    ModelOutputs,
    fit_detector,
    load_detector,
    save_detector,
)
from snojoe.support.errors import SnojoeError


def outputs(seed, n=120):
    rng = np.random.default_rng(seed)
    hidden = np.abs(rng.normal(size=(n, 12))).astype(np.float32)
    labels = rng.integers(0, 2, (n, 4))
    return ModelOutputs(rng.normal(size=(n, 4)), rng.normal(size=(n, 9)), hidden, labels)


HEAD = LinearHead(np.random.default_rng(5).normal(size=(4, 12)), np.arange(4.0))


@pytest.mark.parametrize("name", DETECTORS)
def test_it_scores_and_decides_as_before(name, tmp_path):
    detector = fit_detector(name, outputs(0), outputs(1), HEAD, accept=0.9)
    save_detector(detector, tmp_path / "d.safetensors")
    restored = load_detector(tmp_path / "d.safetensors")
    assert type(restored) is type(detector)
    assert restored.get_params() == detector.get_params()
    assert restored.offset_ == detector.offset_
    new = outputs(2)
    np.testing.assert_allclose(restored.score_outputs(new), detector.score_outputs(new), rtol=1e-9)
    save_detector(restored, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "d.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("name", DETECTORS)
def test_the_calibration_is_stored(name, tmp_path):
    detector = fit_detector(name, outputs(0), outputs(1), HEAD).calibrate_outputs(outputs(3), 0.9)
    save_detector(detector, tmp_path / "d.safetensors")
    restored = load_detector(tmp_path / "d.safetensors")
    assert restored.offset_ == detector.offset_
    assert np.array_equal(restored.calibration_, detector.calibration_)


def test_the_format_is_in_the_file_and_no_pickle(tmp_path):
    save_detector(fit_detector("vim", outputs(0), outputs(1), HEAD), tmp_path / "d")
    with safe_open(tmp_path / "d", framework="numpy") as file:
        header = json.loads(file.metadata()["snojoe.detector"])
    assert (header["format"], header["name"]) == (2, "vim")


def test_what_cannot_be_saved_is_said(tmp_path):
    forest = IsolationForest(random_state=None).fit(outputs(0).logits)
    with pytest.raises(ValueError, match="random_state=None: expected a seed"):
        save_detector(forest, tmp_path / "d")

    class Mine(IsolationForest):
        pass

    with pytest.raises(ValueError, match=r"expected one of max_logit, .*; got Mine"):
        save_detector(Mine().fit(outputs(0).logits), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("learnt", "message"),
    [
        (NearestNeighbors(), r"mine.found_: a scikit-learn estimator .* expected _rebuild"),
        ({1, 2}, r"mine: expected arrays and numbers to store \(Object of type set"),
    ],
)
def test_a_score_of_ones_own_that_cannot_be_stored_is_said(learnt, message, tmp_path, monkeypatch):
    class Mine(JointEnergy):
        name = "mine"

        def _fit(self, X, y):
            self.found_ = learnt

    monkeypatch.setitem(DETECTORS, "mine", Mine)
    with pytest.raises(ValueError, match=message):
        save_detector(Mine().fit(outputs(0).logits), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "this version has no detector format 1"),
        ({"name": "gone"}, r"not a saved detector \('gone'\)"),
        ({"params": {"a": 1}}, "not a saved detector"),
        ({"kinds": {"gaussians_": "os"}}, "not a saved detector"),
    ],
)
def test_another_versions_file_is_named(change, message, tmp_path):
    save_detector(fit_detector("mahalanobis", outputs(0), outputs(1), HEAD), tmp_path / "d")
    with safe_open(tmp_path / "d", framework="numpy") as file:
        header = json.loads(file.metadata()["snojoe.detector"]) | change
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(arrays, tmp_path / "d", metadata={"snojoe.detector": json.dumps(header)})
    with pytest.raises(SnojoeError, match=f"d: {message}"):
        load_detector(tmp_path / "d")


def test_what_is_no_detector_is_named(tmp_path):
    (tmp_path / "text").write_text("x")
    save_file({"a": np.zeros(1)}, tmp_path / "other")
    for name in ("text", "other", "gone"):
        with pytest.raises(SnojoeError, match=f"{name}: not a saved detector"):
            load_detector(tmp_path / name)
