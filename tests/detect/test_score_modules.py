"""Every score in PyTorch and ONNX beside its detector in NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from snojoe.detect.score_modules import ScoreModule
from snojoe.detectors import DETECTORS, LinearHead, ModelOutputs, fit_detector
from snojoe.model.classifier import Outputs
from snojoe.support.errors import SnojoeError

FIELDS = ("logits", "features", "hidden")


def outputs(seed, n=150):
    rng = np.random.default_rng(seed)
    hidden = np.abs(rng.normal(size=(n, 12))).astype(np.float32)
    features, logits = rng.normal(size=(n, 9)), 4 * rng.normal(size=(n, 4))
    labels = rng.integers(0, 2, (n, 4))
    return ModelOutputs(np.float32(logits), np.float32(features), hidden, labels)


HEAD = LinearHead(np.random.default_rng(5).normal(size=(4, 12)), np.arange(4.0))
NEW = outputs(2, 40)
# A saturated image, and one that is a train image.
for _field, _values in (("logits", 60.0), ("hidden", 30.0), ("features", 9.0)):
    getattr(NEW, _field)[0] = _values
    getattr(NEW, _field)[1] = getattr(outputs(0), _field)[3]


def tensors(rows):
    return Outputs(*(torch.from_numpy(getattr(NEW, field)[rows]) for field in FIELDS))


@pytest.fixture(scope="module")
def fitted():
    return {name: fit_detector(name, outputs(0), outputs(1), HEAD) for name in DETECTORS}


@pytest.mark.parametrize("name", DETECTORS)
def test_it_is_what_its_detector_says(name, fitted):
    found = ScoreModule(fitted[name])(tensors(slice(None)))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), fitted[name].score_outputs(NEW), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize(("name", "params"), [
    ("knn", {"k": 1000}), ("nn_guide", {"k": 1}), ("lof", {"n_neighbors": 5}),
    ("odin", {"temperature": 10.0}), ("top_k_energy", {"k": 2}), ("residual", {"principal_dim": 2}),
])  # fmt: skip
def test_parameters_are_heeded(name, params):
    detector = fit_detector(name, outputs(0), outputs(1), HEAD, **params)
    found = ScoreModule(detector)(tensors(slice(None)))
    np.testing.assert_allclose(found.numpy(), detector.score_outputs(NEW), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("name", ["knn", "nn_guide", "mahalanobis_pp", "mahalanobis_pp_features"])
def test_features_of_zero_have_no_direction(name, fitted):
    zeros = ModelOutputs(NEW.logits[:1], 0 * NEW.features[:1], 0 * NEW.hidden[:1])
    found = ScoreModule(fitted[name])(Outputs(*(torch.from_numpy(a) for a in (
        zeros.logits, zeros.features, zeros.hidden))))  # fmt: skip
    np.testing.assert_allclose(found.numpy(), fitted[name].score_outputs(zeros), rtol=1e-9)


def test_a_score_without_a_form_is_refused(fitted):
    class Other(type(fitted["max_logit"])):
        name = "other"

    with pytest.raises(SnojoeError, match="other cannot be exported; expected one of joint_energy"):
        ScoreModule(Other().fit(NEW.logits))


class _All(nn.Module):
    def __init__(self, detectors):
        super().__init__()
        self.scores = nn.ModuleList(ScoreModule(each) for each in detectors)

    def forward(self, logits, features, hidden):
        return tuple(score(Outputs(logits, features, hidden))[0] for score in self.scores)


def test_onnx_runtime_says_the_same(fitted, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    ort = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    target = tmp_path / "scores.onnx"
    module = _All(fitted.values()).eval()
    program = torch.onnx.export(
        module, tuple(tensors(slice(0, 1))), input_names=list(FIELDS), dynamo=True, verbose=False
    )
    program.save(target)
    session = ort.InferenceSession(target)
    expected = {name: detector.score_outputs(NEW) for name, detector in fitted.items()}
    for i in range(10):
        one = {field: getattr(NEW, field)[i : i + 1] for field in FIELDS}
        for name, score in zip(fitted, session.run(None, one), strict=True):
            assert score == pytest.approx(expected[name][i], rel=1e-9, abs=1e-7), name
