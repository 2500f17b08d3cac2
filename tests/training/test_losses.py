"""Losses against the formulas of their papers, on random logits."""

from typing import get_args

import numpy as np
import pytest
import torch

from snojoe.model.energy import joint_energy
from snojoe.params import Train
from snojoe.training.losses import LOSSES, asymmetric, bce, logit_norm, towards_none


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(50, 7, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(50, 7, generator=generator) < 0.3).double()


def test_the_parameters_name_every_loss():
    assert set(LOSSES) == set(get_args(Train.model_fields["loss"].annotation))
    assert LOSSES[Train.model_fields["loss"].default] is torch.nn.functional.__dict__[
        "binary_cross_entropy_with_logits"
    ]  # fmt: skip


@pytest.mark.parametrize(("positive", "negative", "margin"), [(0, 4, 0.05), (1, 2, 0.2)])
def test_asymmetric_loss_is_the_papers(batch, positive, negative, margin):
    """Eq. 4, 5 and 7 of Ridnik et al.: L+ = (1-p)^g+ log p, L- = p_m^g- log(1 - p_m)."""
    p, y = 1 / (1 + np.exp(-batch[0].numpy())), batch[1].numpy()
    shifted = np.maximum(p - margin, 0)
    expected = -(
        y * (1 - p) ** positive * np.log(p)
        + (1 - y) * shifted**negative * np.log(1 - shifted)
    ).mean()  # fmt: skip
    assert asymmetric(*batch, positive, negative, margin).item() == pytest.approx(expected)
    if negative == 4:
        assert LOSSES["asymmetric"](*batch).item() == pytest.approx(expected)


def test_without_gammas_and_margin_it_is_binary_cross_entropy(batch):
    torch.testing.assert_close(asymmetric(*batch, 0, 0, 0), bce(*batch))


def test_an_easy_negative_costs_nothing():
    logits = torch.tensor([[-5.0, -3.0]], requires_grad=True)
    loss = asymmetric(logits, torch.zeros(1, 2))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(1, 2))


@pytest.mark.parametrize("loss", LOSSES.values())
def test_extreme_logits_have_a_finite_loss_and_gradient(loss):
    logits = torch.tensor([[60.0, -60.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    value = loss(logits, torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_logit_norm_is_the_papers_with_sigmoids(batch):
    """f / (tau |f|) of Wei et al. in the binary cross-entropy, with tau = 0.5 / sqrt(7)."""
    logits, y = (each.numpy() for each in batch)
    tau = 0.5 / 7**0.5
    p = 1 / (1 + np.exp(-logits / (tau * np.linalg.norm(logits, axis=1, keepdims=True))))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert logit_norm(*batch).item() == pytest.approx(expected)


def test_the_norm_of_the_logits_lowers_no_loss(batch):
    logits, labels = batch
    torch.testing.assert_close(logit_norm(7 * logits, labels), logit_norm(logits, labels))
    assert bce(7 * logits, labels) > 1.5 * bce(logits, labels)


def test_an_outlier_costs_its_joint_energy_by_label(batch):
    logits = batch[0]
    expected = joint_energy(logits.numpy()).mean() / 7
    assert towards_none(logits).item() == pytest.approx(expected)
    torch.testing.assert_close(towards_none(logits), bce(logits, torch.zeros_like(logits)))
