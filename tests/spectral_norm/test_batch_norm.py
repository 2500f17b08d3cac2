import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm import apply_spectral_norm
from snojoe.spectral_norm.batch_norm import (
    SpectralBatchNorm2d,
    apply_spectral_batch_norm,
    fold_spectral_batch_norm,
    freeze_batch_norm,
    recalibrate_batch_norm,
)

BATCHES = list(torch.randn(3, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


def small_model():
    """Four counted layers with BatchNorms of scales between 0.5 and 4."""
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


def lipschitz(module):
    """Lipschitz constant of a BatchNorm in eval mode, measured on its outputs."""
    inputs = torch.eye(module.num_features)[..., None, None]
    inputs = inputs if isinstance(module, nn.BatchNorm2d) else inputs.flatten(1)
    module.eval()
    with torch.no_grad():
        return (module(inputs) - module(torch.zeros_like(inputs))).abs().max().item()


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


def test_recalibrating_on_nothing_is_an_error():
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate_batch_norm(model, [])
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("coefficient", [0.5, 3.0, 100.0])
def test_no_bounded_batch_norm_stretches_more_than_its_coefficient(coefficient):
    model = small_model()
    recalibrate_batch_norm(model, BATCHES)
    free = [lipschitz(module) for module in batch_norms(model)]
    apply_spectral_batch_norm(model, 4, coefficient)
    bounded = [lipschitz(module) for module in batch_norms(model)]
    assert bounded == pytest.approx([min(value, coefficient) for value in free], rel=1e-5)


@pytest.mark.parametrize(("sn_layers", "bounded"), [(0, 0), (1, 1), (3, 2), (4, 3)])
def test_depth_is_counted_as_for_the_weights(sn_layers, bounded):
    model = small_model()
    names = list(model.state_dict())
    apply_spectral_batch_norm(model, sn_layers)
    types = [type(module) for module in batch_norms(model)]
    assert sum(t not in (nn.BatchNorm1d, nn.BatchNorm2d) for t in types) == bounded
    assert list(model.state_dict()) == names


def test_a_folded_model_is_plain_and_gives_the_same_outputs():
    model = small_model()
    plain = [type(module) for module in model.modules()]
    apply_spectral_batch_norm(model, 4, coefficient=0.5)
    recalibrate_batch_norm(model, BATCHES)
    before = model.eval()(BATCHES[0])
    fold_spectral_batch_norm(model)
    torch.testing.assert_close(model(BATCHES[0]), before, rtol=1e-5, atol=1e-5)
    assert [type(module) for module in model.modules()] == plain


def test_a_bound_that_does_not_bind_trains_like_a_plain_batch_norm():
    plain, bounded = small_model(), small_model()
    apply_spectral_batch_norm(bounded, 4, coefficient=1e9)
    for model in (plain, bounded):
        model[1][2].p = 0.0
        for batch in BATCHES:
            model(batch).square().sum().backward()
    torch.testing.assert_close(bounded.state_dict(), plain.state_dict())
    for ours, theirs in zip(bounded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_bound_is_part_of_the_gradient():
    module = nn.BatchNorm2d(3, eps=1e-12).double()
    module.weight.data = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    apply_spectral_batch_norm(nn.Sequential(module), 1, coefficient=1.0)
    assert isinstance(module, SpectralBatchNorm2d)
    torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(module.eval(), {"weight": weight}, INPUTS),
        module.weight,
    )


INPUTS = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_classifiers_head_can_be_frozen_and_bounded():
    model = build_classifier("resnet10", 3).train()
    apply_spectral_batch_norm(model, 10)
    freeze_batch_norm(model)
    assert not model.head.bn.training
    assert model.head.bn.coefficient == 3.0


def without_scale():
    return nn.Sequential(nn.BatchNorm2d(3, affine=False))


def bounded_already():
    model = nn.Sequential(nn.BatchNorm2d(3))
    apply_spectral_batch_norm(model, 1)
    return model


@pytest.mark.parametrize(
    "model", [without_scale(), bounded_already(), nn.Sequential(nn.BatchNorm3d(3))], ids=str
)
def test_other_batch_norms_are_refused(model):
    with pytest.raises(ValueError, match="expected BatchNorm1d or BatchNorm2d with a scale"):
        apply_spectral_batch_norm(model, 1)


@pytest.mark.parametrize(("sn_layers", "coefficient"), [(5, 3.0), (-1, 3.0), (4, 0.0), (4, -1.0)])
def test_bad_arguments_are_named(sn_layers, coefficient):
    with pytest.raises(ValueError, match=r"sn_layers=|coefficient="):
        apply_spectral_batch_norm(small_model(), sn_layers, coefficient)
