import copy
import pickle

import pytest
import torch
from torch import nn

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm.batch_norm import (
    SpectralBatchNorm2d,
    apply_spectral_batch_norm,
    fold_spectral_batch_norm,
)
from snojoe.training.batch_norm import freeze_batch_norm, recalibrate_batch_norm

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


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_gives_equal_outputs_and_is_independent(copied):
    model = small_model().eval()
    apply_spectral_batch_norm(model, 4, coefficient=0.5)
    before = model(BATCHES[0])
    clone = copied(model)
    assert torch.equal(clone(BATCHES[0]), before)
    fold_spectral_batch_norm(clone)
    nn.init.zeros_(clone[0][1].weight)
    assert torch.equal(model(BATCHES[0]), before)


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
        module.trained_weight,
    )


INPUTS = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_classifiers_head_can_be_frozen_and_bounded():
    model = build_classifier("resnet10", 3).train()
    apply_spectral_batch_norm(model, 10)
    freeze_batch_norm(model)
    assert not model.head.bn.training
    assert model.head.bn.bound.coefficient == 3.0


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
