import pytest
import torch
from torch import nn

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm import apply_spectral_norm, spectral_norms


def test_every_weight_is_measured_as_by_the_singular_value_decomposition():
    torch.manual_seed(0)
    model = build_classifier("resnet10", 3)
    records = spectral_norms(model)
    weights = {name: w for name, w in model.named_parameters() if w.dim() > 1}
    assert [record.name for record in records] == list(weights)
    for record in records:
        exact = torch.linalg.svdvals(weights[record.name].detach().flatten(1))[0].item()
        assert record.sigma == record.raw_sigma == pytest.approx(exact, rel=1e-5)


def test_normalised_weights_are_measured_before_and_after():
    torch.manual_seed(0)
    model = build_classifier("resnet10", 3)
    plain = spectral_norms(model)
    apply_spectral_norm(model, 9)
    for before, after in zip(plain, spectral_norms(model), strict=True):
        assert after.name == before.name
        assert after.normalized == (after.layer < 10)
        assert after.raw_sigma == pytest.approx(before.sigma, rel=1e-6)
        assert after.sigma == pytest.approx(1.0 if after.normalized else before.sigma, rel=1e-5)


def test_layers_are_those_that_are_counted():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2))
    records = spectral_norms(model.to_empty(device="cpu").apply(_ones))
    assert [record.layer for record in records] == [1, 3]


def test_a_stale_sigma_is_not_believed():
    model = nn.Linear(3, 3, bias=False)
    apply_spectral_norm(nn.Sequential(model), 1)
    with torch.no_grad():
        model.trained_weight.mul_(2.0)
    (record,) = spectral_norms(model)
    assert record.sigma == pytest.approx(2.0, rel=1e-5)


def test_the_operator_norm_of_a_normalised_model():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4))
    example = torch.zeros(1, 3, 8, 8)
    apply_spectral_norm(model, 2, norm="operator", example_input=example)
    records = spectral_norms(model, norm="operator", example_input=example)
    assert [record.sigma for record in records] == pytest.approx([1.0, 1.0], rel=1e-4)


def _ones(module):
    for parameter in module.parameters(recurse=False):
        nn.init.ones_(parameter)
