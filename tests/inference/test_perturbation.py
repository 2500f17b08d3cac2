from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from snojoe.detectors import ODIN, Mahalanobis, MaxLogit
from snojoe.inference.perturbation import (
    Noise,
    mahalanobis_loss,
    noisy_outputs,
    odin_loss,
    outputs_with_noise,
    steps_against,
)
from snojoe.model.classifier import Classifier, Outputs
from snojoe.model.preprocessing import STD

K, CHANNELS, SIDE = 3, 4, 16


def classifier(seed=0):
    torch.manual_seed(seed)
    trunk = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, CHANNELS, 3), tanh=nn.Tanh()))
    return Classifier(trunk, CHANNELS, K).eval()


def images(n=4, side=SIDE, dtype=torch.float32):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=dtype)


def mahalanobis(model):
    features = model.outputs(images(40).to(next(model.parameters()))).features.detach().numpy()
    return Mahalanobis().fit(features, np.arange(40) % K)


def outputs(logits):
    return Outputs(torch.tensor(logits), torch.empty(0), torch.empty(0))


def losses(model):
    return {"odin": odin_loss, "mahalanobis": mahalanobis_loss(mahalanobis(model))}


@pytest.mark.parametrize("score", ["odin", "mahalanobis"])
def test_the_step_is_against_the_gradient_by_finite_differences(score):
    model = classifier().double()
    loss = losses(model)[score]
    clean, eps, h = images(2, side=5, dtype=torch.float64), 1e-3, 1e-6
    seen = []
    model.trunk.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    outputs_with_noise(model, clean, {score: Noise("logits", loss, eps)})
    std = torch.tensor(STD, dtype=torch.float64)[:, None, None]
    signs = (clean - seen[-1]) * std / eps
    for image, sign in zip(clean, signs, strict=True):
        steps = h * torch.eye(image.numel(), dtype=torch.float64).reshape(-1, *image.shape)
        with torch.no_grad():
            ahead, behind = (loss(model.outputs(image + s * steps)) for s in (1, -1))
        slope = ((ahead - behind) / (2 * h)).reshape(image.shape)
        clear = slope.abs() > 1e-6 * slope.abs().max()
        assert clear.float().mean() > 0.9
        torch.testing.assert_close(sign[clear], slope[clear].sign())


def test_odin_loss_is_the_bce_of_the_most_probable_label():
    logits = [[0.5, 2.0, -1.0], [-3.0, -0.4, -2.0]]
    expected = bce(torch.tensor([2.0, -0.4]), torch.tensor([1.0, 0.0]), reduction="none")
    torch.testing.assert_close(odin_loss(outputs(logits)), expected)


def test_a_certain_prediction_still_has_a_gradient():
    logits = torch.tensor([[40.0, 1.0, 0.0]], requires_grad=True)
    odin_loss(Outputs(logits, logits, logits)).sum().backward()
    assert logits.grad[0, 0] < 0


def test_mahalanobis_loss_is_minus_the_score():
    model = classifier()
    detector = mahalanobis(model)
    outputs = model.outputs(images())
    expected = -detector.score_samples(outputs.features.detach().numpy())
    np.testing.assert_allclose(mahalanobis_loss(detector)(outputs).detach(), expected, rtol=1e-4)


@pytest.mark.parametrize("score", ["odin", "mahalanobis"])
def test_noise_lowers_the_loss(score):
    model = classifier()
    loss = losses(model)[score]
    _, noisy = outputs_with_noise(model, images(), {score: Noise("logits", loss, 1e-3)})
    assert (loss(noisy[score]) < loss(model.outputs(images()))).all()


def test_odin_without_noise_and_temperature_ranks_exactly_as_max_logit():
    model = classifier()
    _, (step,) = steps_against(model, images(50), [odin_loss])
    noisy = noisy_outputs(model, images(50), step, 0.0)
    with torch.no_grad():
        clean = model(images(50)).numpy()
    odin, max_logit = ODIN(temperature=1.0).fit(clean), MaxLogit().fit(clean)
    assert (odin.score_samples(noisy.logits) == max_logit.score_samples(clean)).all()


def test_one_pass_gives_the_steps_against_all_losses():
    model, passes = classifier(), []
    both = list(losses(model).values())
    model.trunk.register_forward_hook(lambda *_: passes.append(1))
    outputs, steps = steps_against(model, images(), both)
    assert len(passes) == 1
    assert not outputs.logits.requires_grad
    for step, loss in zip(steps, both, strict=True):
        _, (alone,) = steps_against(model, images(), [loss])
        assert torch.equal(step, alone)
