"""Scores of several outputs, against their definitions."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import normalize
from torch.nn.functional import softplus

from snojoe.detectors import JointEnergy, LinearHead, ModelOutputs
from snojoe.detectors.grad_norm import GradNorm, GradNormJointEnergy
from snojoe.detectors.nn_guide import NNGuide
from snojoe.detectors.react import ReAct
from snojoe.detectors.residual import Residual
from snojoe.detectors.she import SHE
from snojoe.detectors.vim import ViM


def softplus_sum(logits):
    return np.log1p(np.exp(logits)).sum(axis=1)


@pytest.fixture
def head():
    rng = np.random.default_rng(0)
    return LinearHead(rng.normal(size=(3, 7)), rng.normal(size=3))


def outputs(head, seed):
    rng = np.random.default_rng(seed)
    hidden = np.maximum(rng.normal(size=(50, 7)), 0)
    logits = head.logits(hidden)
    labels = (logits + rng.normal(size=(50, 3)) > 0).astype(int)
    return ModelOutputs(logits, rng.normal(size=(50, 4)), hidden, labels)


@pytest.fixture
def train(head):
    return outputs(head, 1)


@pytest.fixture
def test(head):
    return outputs(head, 2)


@pytest.fixture
def val(head):
    return outputs(head, 3)


def residual_norms(train, test, head, principal_dim):
    """By singular vectors and a full projector, where the package takes eigenvectors."""
    origin = np.linalg.lstsq(head.weight, -head.bias, rcond=None)[0]
    principal = np.linalg.svd(train.hidden - origin)[2][:principal_dim]
    projector = np.eye(7) - principal.T @ principal
    return np.linalg.norm((test.hidden - origin) @ projector, axis=1)


@pytest.mark.parametrize("principal_dim", [0, 2, 6])
def test_residual(train, test, head, principal_dim):
    scores = Residual(principal_dim=principal_dim).fit(train, head).score_samples(test)
    assert scores == pytest.approx(-residual_norms(train, test, head, principal_dim))


def test_residual_keeps_half_of_few_dimensions(train, test, head):
    scores = Residual().fit(train, head).score_samples(test)
    assert scores == pytest.approx(-residual_norms(train, test, head, 3))


@pytest.mark.parametrize("principal_dim", [-1, 7])
def test_residual_with_a_bad_dimension(train, head, principal_dim):
    with pytest.raises(ValueError, match=rf"principal_dim must be in 0..6, got {principal_dim}"):
        Residual(principal_dim=principal_dim).fit(train, head)


@pytest.mark.parametrize("with_val", [True, False])
def test_vim_matches_the_means_of_val_or_else_of_train(with_val, train, val, test, head):
    seen = val if with_val else train
    alpha = softplus_sum(seen.logits).mean() / residual_norms(train, seen, head, 3).mean()
    expected = softplus_sum(test.logits) - alpha * residual_norms(train, test, head, 3)
    detector = ViM().fit(train, head, val if with_val else None)
    assert detector.score_samples(test) == pytest.approx(expected)


def test_vim_of_fewer_train_images_than_directions_is_not_the_residual(train, val, test, head):
    few = train.rows(np.arange(50) < 3)
    detector = ViM().fit(few, head, val)
    assert detector.alpha_ < 100
    residual = Residual().fit(few, head).score_samples(test)
    order = [np.argsort(scores) for scores in (detector.score_samples(test), residual)]
    assert not np.array_equal(*order)
    assert ViM().fit(few, head).alpha_ > 1e10  # nothing of few is outside their own directions


def test_vim_without_a_residual(train, head):
    rest = LinearHead(np.zeros_like(head.weight), head.bias)
    flat = ModelOutputs(train.logits, train.features, np.zeros_like(train.hidden))
    with pytest.raises(ValueError, match="principal_dim must leave a residual"):
        ViM().fit(flat, rest)


def test_react_clips_at_the_train_quantile(train, test, head):
    clip = np.quantile(train.hidden, 0.9)
    expected = softplus_sum(head.logits(np.where(test.hidden > clip, clip, test.hidden)))
    assert ReAct().fit(train, head).score_samples(test) == pytest.approx(expected)


def test_react_above_all_activations_is_joint_energy(train, head):
    energies = JointEnergy().fit(train.logits).score_samples(train.logits)
    assert ReAct(quantile=1).fit(train, head).score_samples(train) == pytest.approx(energies)


def test_react_with_a_bad_quantile(train, head):
    with pytest.raises(ValueError, match=r"quantile must be in \[0, 1\], got 90"):
        ReAct(quantile=90).fit(train, head)


def test_she_stores_the_mean_of_rightly_predicted_images(train, test, head):
    patterns = [
        train.hidden[
            [y[k] == 1 and f[k] >= 0 for y, f in zip(train.labels, train.logits, strict=True)]
        ].mean(0)
        for k in range(3)
    ]
    # The authors' public code: the pattern of the predicted class, and no other.
    expected = [h @ patterns[f.argmax()] for h, f in zip(test.hidden, test.logits, strict=True)]
    assert SHE().fit(train, head).score_samples(test) == pytest.approx(expected)
    assert expected != pytest.approx([max(h @ s for s in patterns) for h in test.hidden])


def test_she_leaves_out_a_class_never_rightly_predicted(train, test, head):
    labels = train.labels * [1, 0, 1]
    fitted = SHE().fit(ModelOutputs(train.logits, train.features, train.hidden, labels), head)
    assert fitted.patterns_.shape == (2, 7)
    nearest = [fitted.patterns_[f[[0, 2]].argmax()] for f in test.logits]
    assert fitted.score_samples(test) == pytest.approx((test.hidden * nearest).sum(axis=1))


def test_she_of_a_model_that_predicts_nothing(train, head):
    logits = -np.abs(train.logits) - 1
    fitted = SHE().fit(ModelOutputs(logits, train.features, train.hidden, train.labels), head)
    expected = [train.hidden[train.labels[:, k] == 1].mean(0) for k in range(3)]
    np.testing.assert_allclose(fitted.patterns_, expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "SHE needs labels"), (np.zeros((50, 3)), "SHE needs one label")],
)
def test_she_without_labels(train, head, labels, message):
    with pytest.raises(ValueError, match=message):
        SHE().fit(ModelOutputs(train.logits, train.features, train.hidden, labels), head)


def gradient_norms(loss, test, head):
    """The l1 norms of the loss's gradients at the last layer's weights, image by image."""
    norms = []
    for h in torch.tensor(test.hidden):
        weight = torch.tensor(head.weight, requires_grad=True)
        loss(weight @ h + torch.tensor(head.bias)).backward()
        norms.append(weight.grad.abs().sum().item())
    return norms


def test_grad_norm_is_the_gradient_of_the_cross_entropy_against_uniform(train, test, head):
    expected = gradient_norms(lambda f: -f.log_softmax(dim=0).mean(), test, head)
    assert GradNorm().fit(train, head).score_samples(test) == pytest.approx(expected)


def test_grad_norm_of_the_joint_energy(train, test, head):
    expected = gradient_norms(lambda f: softplus(f).sum(), test, head)
    assert GradNormJointEnergy().fit(train, head).score_samples(test) == pytest.approx(expected)


@pytest.mark.parametrize("detector", [GradNorm, GradNormJointEnergy])
def test_no_grad_norm_takes_an_image_without_a_label_for_one_with_all(detector, train, head):
    f = np.array([[-9.0, -9.0, -9.0], [9.0, -9.0, -9.0]])
    h = np.ones((2, 7))
    nothing, one = detector().fit(train, head).score_samples(ModelOutputs(f, h, h))
    assert nothing < 0.001 * one


def test_nn_guide(train, test, head):
    # The authors' public code: the train features times their confidence are the bank that the
    # k largest inner products are searched in.
    energies = softplus_sum(train.logits)
    bank = normalize(train.hidden) * energies[:, None]
    products = normalize(test.hidden) @ bank.T
    by_cosine = np.argsort(-products / energies, axis=1)[:, :10]
    confidence = softplus_sum(test.logits)
    scores = NNGuide().fit(train, head).score_samples(test)
    assert scores == pytest.approx(confidence * np.sort(products)[:, -10:].mean(axis=1))
    others = confidence * np.take_along_axis(products, by_cosine, axis=1).mean(axis=1)
    assert scores != pytest.approx(others)


def test_nn_guide_with_fewer_images_than_k_takes_all(train, test, head):
    few, all_of_them = NNGuide(k=99).fit(train, head), NNGuide(k=50).fit(train, head)
    assert np.array_equal(few.score_samples(test), all_of_them.score_samples(test))


def test_nn_guide_with_a_bad_k(train, head):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        NNGuide(k=0).fit(train, head)
