import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from snojoe.spectral_norm import apply_spectral_norm
from snojoe.spectral_norm.batch_norm import apply_spectral_batch_norm
from snojoe.training.batch_norm import freeze_batch_norm, recalibrate_batch_norm

BATCHES = list(torch.randn(3, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


def small_model():
    """Four counted layers, one with dropout, and BatchNorms of scales between 0.5 and 4."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Dropout(0.5)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)),
    )
    for module in batch_norms(model):
        nn.init.uniform_(module.weight, 0.5, 4.0)
    return model


def batch_norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]


def test_frozen_statistics_stay_while_scale_and_shift_learn():
    model = small_model().train()
    freeze_batch_norm(model)
    before = copy.deepcopy(model.state_dict())
    model(BATCHES[0]).square().sum().backward()
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(module.weight.grad.abs().sum() > 0 for module in batch_norms(model))
    assert model[1][2].training


def test_train_ends_the_freeze():
    model = small_model()
    freeze_batch_norm(model)
    model.train()
    assert all(module.training for module in batch_norms(model))


def test_recalibrated_statistics_are_the_mean_over_the_batches():
    model, expected = small_model(), small_model()
    expected[1][2].p = 0.0  # torch leaves dropout on
    update_bn(BATCHES, expected.train())
    recalibrate_batch_norm(model, iter(BATCHES))
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_recalibration_leaves_modes_and_momenta_alone():
    model = small_model().train()
    model[0].eval()
    modes = [module.training for module in model.modules()]
    recalibrate_batch_norm(model, BATCHES)
    assert [module.training for module in model.modules()] == modes
    assert [module.momentum for module in batch_norms(model)] == [0.1, None, 0.1]


def test_recalibration_restores_what_spectral_normalisation_moved():
    """Hard normalisation in front of a BatchNorm is undone by its own statistics."""
    model = small_model()
    recalibrate_batch_norm(model, BATCHES)
    before = model.eval()(BATCHES[0])
    apply_spectral_norm(model, 4)
    moved = model(BATCHES[0])
    recalibrate_batch_norm(model, BATCHES)
    torch.testing.assert_close(model(BATCHES[0]), before, rtol=1e-3, atol=1e-3)
    assert (moved - before).norm() > 0.1 * before.norm()


DOUBLES = [batch.double() for batch in BATCHES]


def start(sn_layers):
    """A network in float64 with hardly any eps, a BatchNorm behind each convolution, and its SN."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Sequential(nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(4, 5),
    ).double()
    for module in batch_norms(model):
        module.eps = 1e-14
    normaliser = apply_spectral_norm(model, sn_layers)
    recalibrate_batch_norm(model, DOUBLES)
    return model, normaliser


def train(model, normaliser, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(steps):
        optimizer.zero_grad()
        model(DOUBLES[step % len(DOUBLES)]).square().mean().backward()
        optimizer.step()
        normaliser.power_iteration()


@torch.no_grad()
def difference(model, control):
    """Of the outputs, as a share of the control's."""
    expected = control(DOUBLES[0])
    return ((model(DOUBLES[0]) - expected).norm() / expected.norm()).item()


def test_moving_averages_lag_behind_one_function_and_measured_anew_they_do_not():
    """Hard normalisation trains the control's function; what is stored is of past W / sigma."""
    (model, _), (control, _) = pair = start(2), start(0)
    for each in pair:
        train(*each, steps=10)
    assert difference(model, control) < 1e-10  # 6e-13
    assert difference(model.eval(), control.eval()) > 0.1  # 0.32
    for each in (model, control):
        recalibrate_batch_norm(each, DOUBLES)
    assert difference(model, control) < 1e-10  # 6e-13


def test_hard_normalisation_acts_once_statistics_are_frozen():
    """An affine map does not divide sigma out, even where it starts from the right statistics."""
    (model, _), (control, _) = pair = start(2), start(0)
    for each, normaliser in pair:
        train(each, normaliser, steps=5)
        recalibrate_batch_norm(each, DOUBLES)
        freeze_batch_norm(each)
    assert difference(model, control) < 1e-10
    for each in pair:
        train(*each, steps=5)
    assert difference(model, control) > 0.1  # 0.37


def test_a_bounded_scale_starts_from_the_variance_of_before():
    model = nn.Sequential(nn.BatchNorm1d(1), nn.BatchNorm1d(1))
    apply_spectral_batch_norm(model, 2, coefficient=0.1)
    nn.init.constant_(model[0].running_var, 1e4)  # a scale of 1 stretches by 0.01
    recalibrate_batch_norm(model, [torch.randn(100, 1)])
    assert model[1].running_var.item() == pytest.approx(1, rel=0.05)


def test_recalibrating_on_nothing_is_an_error():
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate_batch_norm(model, [])
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
