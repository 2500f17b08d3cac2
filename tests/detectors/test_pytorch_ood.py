"""pytorch-ood as an oracle, in cases where both must agree. It scores outliers: the sign differs.

It knows single-label softmax networks. Logits (f, 0) make a softmax a sigmoid, and a head whose
logsumexp is the joint energy puts that in the place of its energy.
"""

import numpy as np
import pytest
import torch
from pytorch_ood import detector as oracle

from snojoe.detectors import MSP, JointEnergy, LinearHead, Mahalanobis, MaxLogit, ModelOutputs
from snojoe.detectors.ash import ASHB, ASHP, ASHS
from snojoe.detectors.dice import DICE
from snojoe.detectors.fdbd import FDBD
from snojoe.detectors.gaussian_mixture import GaussianMixture
from snojoe.detectors.gen import GEN
from snojoe.detectors.grad_norm import GradNorm
from snojoe.detectors.kl_matching import KLMatching
from snojoe.detectors.knn import KNN
from snojoe.detectors.nci import NCI
from snojoe.detectors.nn_guide import NNGuide
from snojoe.detectors.react import ReAct
from snojoe.detectors.relative_mahalanobis import RelativeMahalanobis
from snojoe.detectors.residual import Residual
from snojoe.detectors.scale import SCALE
from snojoe.detectors.she import SHE
from snojoe.detectors.vim import ViM
from snojoe.detectors.vra import VRA

K, D = 3, 6


def tensor(array):
    return torch.as_tensor(array, dtype=torch.float64)


def joint_energy(logits):
    return torch.nn.functional.softplus(logits).sum(dim=1)


def score(detector, X):
    return detector.fit(X).score_samples(X)


@pytest.fixture
def head():
    rng = np.random.default_rng(0)
    return LinearHead(rng.normal(size=(K, D)), rng.normal(size=K))


@pytest.fixture
def outputs(head):
    """Three clusters in orthogonal directions, so that every class has its own images."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, K, 120)
    hidden = np.abs(rng.normal(scale=0.3, size=(120, D))) + 4 * np.eye(K, D)[ids]
    return ModelOutputs(head.logits(hidden), hidden, hidden, labels=np.eye(K)[ids])


@pytest.fixture
def ids(outputs):
    return torch.as_tensor(outputs.labels.argmax(axis=1))


def test_max_logit(outputs):
    expected = -oracle.MaxLogit.score(tensor(outputs.logits))
    assert score(MaxLogit(), outputs.logits) == pytest.approx(expected.numpy())


def test_msp(outputs):
    expected = -oracle.MaxSoftmax.score(tensor(outputs.logits))
    assert np.exp(score(MSP(), outputs.logits)) == pytest.approx(expected.numpy())


def test_joint_energy_sums_the_energies_of_binary_networks(outputs):
    binary = [torch.stack([f, torch.zeros_like(f)], 1) for f in tensor(outputs.logits).T]
    expected = -sum(oracle.EnergyBased.score(logits) for logits in binary)
    assert score(JointEnergy(), outputs.logits) == pytest.approx(expected.numpy())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Mahalanobis, oracle.Mahalanobis), (RelativeMahalanobis, oracle.RMD)],
)
def test_mahalanobis_of_single_labels(outputs, ids, ours, theirs):
    z = torch.as_tensor(outputs.features, dtype=torch.float32)
    reference = theirs(None)
    reference.fit_features(z, ids)
    expected = -reference.predict_features(z).numpy() * len(z)  # its covariance is a sum
    scores = ours().fit(outputs.features, ids.numpy()).score_samples(outputs.features)
    assert scores == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_knn(outputs, ids):
    reference = oracle.KNN(None, k=7).fit_features(tensor(outputs.features), ids)
    expected = -reference.predict_features(tensor(outputs.features[:20])).numpy()
    scores = KNN(k=7).fit(outputs.features).score_samples(outputs.features[:20])
    assert scores == pytest.approx(expected)


def test_residual_and_vim_of_one_confident_class(outputs, head):
    # With one logit far above 0 its softplus, its logsumexp and itself are equal.
    one = LinearHead(np.abs(head.weight[:1]), np.array([20.0]))
    confident = ModelOutputs(one.logits(outputs.hidden), outputs.features, outputs.hidden)
    reference = oracle.ViM(None, d=2, w=tensor(one.weight), b=tensor(one.bias))
    hidden = torch.as_tensor(outputs.hidden, dtype=torch.float32)
    reference.fit_features(hidden, torch.zeros(len(hidden)))
    vim = ViM(principal_dim=2).fit(confident, one)
    assert vim.alpha_ == pytest.approx(reference.alpha, rel=1e-4)
    expected = -reference.predict_features(hidden).numpy()
    assert vim.score_samples(confident) == pytest.approx(expected, abs=1e-2)
    residual = Residual(principal_dim=2).fit(confident, one).score_samples(confident)
    assert residual * vim.alpha_ == pytest.approx(expected - confident.logits[:, 0], abs=1e-2)


def test_react(outputs, head):
    reference = oracle.ReAct(
        backbone=None,
        head=lambda h: h @ tensor(head.weight).T + tensor(head.bias),
        detector=lambda logits: -joint_energy(logits),
    )
    hidden = tensor(outputs.hidden)
    reference.fit_feature_maps(hidden, torch.zeros(len(hidden)))
    expected = -reference.predict_feature_maps(hidden).numpy()
    assert ReAct().fit(outputs, head).score_samples(outputs) == pytest.approx(expected)


def test_she_of_single_labels(outputs, ids):
    # Sharp logits, so that an image is predicted to have one class and no other.
    head = LinearHead(np.eye(K, D), np.full(K, -2.0))
    sharp = ModelOutputs(
        head.logits(outputs.hidden), outputs.features, outputs.hidden, outputs.labels
    )
    reference = oracle.SHE(None, head=lambda h: h[:, :K] - 2)
    reference.fit_features(tensor(outputs.hidden), ids)
    new = np.abs(np.random.default_rng(2).normal(size=(50, D)))  # of no class in particular
    expected = -reference.predict_features(tensor(new)).numpy()
    assert (expected < (new @ reference.patterns.numpy().T).max(axis=1)).any()
    scores = SHE().fit(sharp, head).score_samples(ModelOutputs(head.logits(new), new, new))
    assert scores == pytest.approx(expected)


def test_grad_norm(outputs, head):
    layer = torch.nn.Linear(D, K).double()
    with torch.no_grad():
        layer.weight.copy_(tensor(head.weight))
        layer.bias.copy_(tensor(head.bias))
    reference = oracle.GradNorm(layer, param_filter=lambda name: name == "weight")
    expected = -reference.predict(tensor(outputs.hidden)).detach().numpy()
    assert GradNorm().fit(outputs, head).score_samples(outputs) == pytest.approx(expected)


def test_nn_guide_with_the_joint_energy_in_its_head(outputs, head, ids):
    def head_of_one_logit(h):
        weight, bias = (torch.as_tensor(a, dtype=h.dtype) for a in (head.weight, head.bias))
        return joint_energy(h @ weight.T + bias)[:, None]

    reference = oracle.NNGuide(None, head=head_of_one_logit, k=7)
    reference.fit_features(tensor(outputs.hidden), ids)
    expected = -reference.predict_features(torch.as_tensor(outputs.hidden).float()).numpy()
    scores = NNGuide(k=7).fit(outputs, head).score_samples(outputs)
    assert scores == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs", "params"),
    [
        (SCALE(pruned=0.5), oracle.SCALE, {}),
        (ASHP(pruned=0.5), oracle.ASH, {"variant": "ash-p"}),
        (ASHB(pruned=0.5), oracle.ASH, {"variant": "ash-b"}),
        (ASHS(pruned=0.5), oracle.ASH, {"variant": "ash-s"}),
    ],
)
def test_shaped_activations(ours, theirs, params, outputs, head):
    reference = theirs(
        backbone=None,
        head=lambda h: h.flatten(1) @ tensor(head.weight).T + tensor(head.bias),
        detector=lambda logits: -joint_energy(logits),
        percentile=0.5,
        **params,
    )
    maps = tensor(outputs.hidden)[:, :, None, None].clone()
    expected = -reference.predict_feature_maps(maps).numpy()
    assert ours.fit(outputs, head).score_samples(outputs) == pytest.approx(expected)


def test_dice(outputs, head, ids):
    reference = oracle.DICE(
        None,
        tensor(head.weight),
        tensor(head.bias),
        p=0.7,
        detector=lambda logits: -joint_energy(logits),
    )
    reference.fit_features(tensor(outputs.hidden), ids)
    expected = -reference.predict_features(tensor(outputs.hidden)).numpy()
    scores = DICE(sparsity=0.7).fit(outputs, head).score_samples(outputs)
    assert scores == pytest.approx(expected, rel=1e-5)  # its weights are float32


def test_vra_of_one_activation_that_is_only_clipped(outputs, head, ids):
    # Its quantiles are each activation's own, and what is low becomes the low quantile and not 0.
    one = LinearHead(head.weight[:, :1], head.bias)
    hidden = outputs.hidden[:, :1]
    single = ModelOutputs(one.logits(hidden), outputs.features, hidden)
    reference = oracle.VRA(
        backbone=None,
        head=lambda h: h.flatten(1) @ tensor(one.weight).T + tensor(one.bias),
        detector=lambda logits: -joint_energy(logits),
        lower_percentile=0.0,
        upper_percentile=0.9,
    )
    maps = tensor(hidden)[:, :, None, None]
    reference.fit_feature_maps(maps, ids)
    expected = -reference.predict_feature_maps(maps).numpy()
    scores = VRA(low=0, high=0.9).fit(single, one).score_samples(single)
    assert scores == pytest.approx(expected, rel=1e-6)


def linear(weight, bias):
    layer = torch.nn.Linear(*reversed(weight.shape))
    with torch.no_grad():
        layer.weight.copy_(tensor(weight))
        layer.bias.copy_(tensor(bias))
    return layer


def test_nci(outputs, head):
    reference = oracle.NCI(None, linear(head.weight, head.bias), alpha=0.01)
    hidden = tensor(outputs.hidden)
    expected = -reference.fit_features(hidden).predict_features(hidden).numpy()
    scores = NCI(alpha=0.01).fit(outputs, head).score_samples(outputs)
    assert scores == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_fdbd_of_one_positive_label(outputs, head):
    # A softmax over (f, 0) has one boundary, that of the label.
    one = LinearHead(np.abs(head.weight[:1]), np.abs(head.bias[:1]))
    single = ModelOutputs(one.logits(outputs.hidden), outputs.features, outputs.hidden)
    reference = oracle.fDBD(
        None, linear(np.vstack([one.weight, np.zeros(D)]), np.append(one.bias, 0))
    )
    hidden = tensor(outputs.hidden)
    expected = -reference.fit_features(hidden).predict_features(hidden).numpy()
    assert FDBD().fit(single, one).score_samples(single) == pytest.approx(expected, rel=1e-5)


def test_gen_sums_the_entropies_of_binary_networks(outputs):
    binary = [torch.stack([f, torch.zeros_like(f)], 1) for f in tensor(outputs.logits / 3).T]
    expected = -sum(oracle.GEN.score(logits) for logits in binary).numpy()
    assert score(GEN(m=K), outputs.logits / 3) == pytest.approx(expected)


def test_kl_matching_sums_the_divergences_of_binary_networks(outputs):
    logits = outputs.logits / 3
    expected = 0
    for f in tensor(logits).T:
        binary = torch.stack([f, torch.zeros_like(f)], 1)
        expected -= oracle.KLMatching(None).fit_logits(binary).predict_logits(binary)
    assert score(KLMatching(), logits) == pytest.approx(expected.numpy())


def test_gaussian_mixture_of_one_class_and_independent_features(outputs):
    z = outputs.features - outputs.features.mean(axis=0)
    axes = np.linalg.svd(z)[2]  # along these its full covariance is diagonal
    z = z @ axes.T
    reference = oracle.GMM(None, reg=1e-6).fit_features(tensor(z), torch.zeros(len(z)))
    expected = -reference.predict_features(tensor(z)).numpy()
    assert score(GaussianMixture(), z) == pytest.approx(expected)
