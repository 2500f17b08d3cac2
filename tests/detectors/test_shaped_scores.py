"""Scores that shape the hidden features or the last layer, image by image as their papers say.

SCALE and ASH from their authors' code (k = D - round(p D)) and equations, VRA from its equation in
the authors' code, whose low activations become 0, DICE from its paper and code.
"""

import math

import numpy as np
import pytest

from snojoe.detectors import JointEnergy, LinearHead, ModelOutputs
from snojoe.detectors.ash import ASHB, ASHP, ASHS
from snojoe.detectors.dice import DICE
from snojoe.detectors.scale import SCALE
from snojoe.detectors.vra import VRA

D = 20


@pytest.fixture
def head():
    rng = np.random.default_rng(0)
    return LinearHead(rng.normal(size=(3, D)), rng.normal(size=3))


def outputs(head, seed, n=40):
    hidden = np.abs(np.random.default_rng(seed).normal(size=(n, D)))
    return ModelOutputs(head.logits(hidden), np.ones((n, 2)), hidden)


@pytest.fixture
def train(head):
    return outputs(head, 1)


@pytest.fixture
def test(head):
    return outputs(head, 2)


def energy(head, h):
    logits = head.weight @ h + head.bias
    return sum(max(f, 0) + math.log1p(math.exp(-abs(f))) for f in logits)


def score(detector, train, test, head):
    return detector.fit(train, head).score_samples(test)


def test_scale_scales_all_by_the_share_of_the_largest(train, test, head):
    expected = [
        energy(head, h * math.exp(h.sum() / sum(sorted(h)[-3:]))) for h in test.hidden
    ]  # of 20 activations 17 are pruned
    assert score(SCALE(), train, test, head) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("detector", "k", "value"),
    [
        (ASHP(), 7, lambda h, kept: kept),
        (ASHB(), 7, lambda h, kept: np.full_like(kept, h.sum() / 7)),
        (ASHS(), 2, lambda h, kept: kept * math.exp(h.sum() / kept.sum())),
    ],
)
def test_ash_keeps_the_largest(detector, k, value, train, test, head):
    expected = []
    for h in test.hidden:
        order = np.argsort(-h)[:k]
        shaped = np.zeros(D)
        shaped[order] = value(h, h[order])
        expected.append(energy(head, shaped))
    assert score(detector, train, test, head) == pytest.approx(expected)


@pytest.mark.parametrize("detector", [ASHP, ASHB, ASHS])
def test_ash_keeps_no_zero(detector, train, head):
    hidden = np.zeros((2, D))
    hidden[0, :2] = 3, 1
    one = score(
        detector(pruned=0.5), train, ModelOutputs(hidden @ head.weight.T, hidden, hidden), head
    )
    shaped = {ASHP: (3, 1), ASHB: (2, 2), ASHS: (3 * math.e, math.e)}[detector]
    assert one[0] == pytest.approx(energy(head, np.array([*shaped, *[0] * (D - 2)])))
    assert one[1] == pytest.approx(energy(head, np.zeros(D)))


@pytest.mark.parametrize("detector", [SCALE, ASHP])
@pytest.mark.parametrize("pruned", [-0.1, 1, 90])
def test_a_bad_share(detector, pruned, train, head):
    with pytest.raises(ValueError, match=rf"pruned must be in \[0, 1\), got {pruned}"):
        detector(pruned=pruned).fit(train, head)


def test_of_few_activations_one_is_kept(train, test, head):
    expected = [energy(head, np.where(h == h.max(), h, 0)) for h in test.hidden]
    assert score(ASHP(pruned=0.99), train, test, head) == pytest.approx(expected)


def test_dice_keeps_the_weights_that_contribute_most(train, test, head):
    mean = [math.fsum(column) / len(train.hidden) for column in train.hidden.T]
    contributions = sorted(w * m for row in head.weight for w, m in zip(row, mean, strict=True))
    kept = contributions[-6]  # a tenth of 3 x 20 weights
    expected = []
    for h in test.hidden:
        logits = [
            sum(w * x for w, x, m in zip(row, h, mean, strict=True) if w * m >= kept) + b
            for row, b in zip(head.weight, head.bias, strict=True)
        ]
        expected.append(sum(math.log1p(math.exp(f)) for f in logits))
    assert score(DICE(), train, test, head) == pytest.approx(expected)


def test_dice_with_a_bad_sparsity(train, head):
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\], got 90"):
        DICE(sparsity=90).fit(train, head)


def test_vra_suppresses_and_clips(train, test, head):
    low, high = np.percentile(train.hidden, [60, 95])
    expected = [
        energy(head, np.array([0 if x < low else high if x > high else x for x in h]))
        for h in test.hidden
    ]
    assert score(VRA(), train, test, head) == pytest.approx(expected)


def test_vra_of_all_quantiles_is_joint_energy(train, head):
    energies = JointEnergy().fit(train.logits).score_samples(train.logits)
    assert score(VRA(low=0, high=1), train, train, head) == pytest.approx(energies)


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0.9, 0.8), (0.5, 95)])
def test_vra_with_bad_quantiles(low, high, train, head):
    with pytest.raises(ValueError, match=f"low <= high <= 1 must hold, got {low} and {high}"):
        VRA(low=low, high=high).fit(train, head)
