import pytest
import torch
from torch import nn

from snojoe.spectral_norm import normalize_modules
from snojoe.spectral_norm.bounds import HardBound, SoftBound


def effective_sigma(bound, sigma, coefficient=3.0):
    layer = nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        layer.weight.mul_(sigma / torch.linalg.matrix_norm(layer.weight, 2))
    normalize_modules([layer], bound=bound, coefficient=coefficient)
    return torch.linalg.matrix_norm(layer.weight, 2).item()


@pytest.mark.parametrize("sigma", [0.2, 1.0, 7.0])
def test_hard_makes_sigma_one(sigma):
    assert effective_sigma("hard", sigma) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(("sigma", "expected"), [(0.5, 0.5), (2.9, 2.9), (3.1, 3.0), (40.0, 3.0)])
def test_soft_divides_only_above_the_coefficient(sigma, expected):
    assert effective_sigma("soft", sigma) == pytest.approx(expected, rel=1e-5)


def test_soft_takes_its_coefficient():
    assert effective_sigma("soft", 40.0, coefficient=6.0) == pytest.approx(6.0, rel=1e-5)


def test_none_leaves_the_weight_alone():
    layer = nn.Linear(6, 4)
    before = layer.weight
    normalize_modules([layer], bound="none")
    assert layer.weight is before


@pytest.mark.parametrize("bound", [HardBound(), SoftBound(3.0)])
@pytest.mark.parametrize("sigma", [0.7, 3.5])
def test_slope_is_the_derivative_of_the_divisor(bound, sigma):
    sigma = torch.tensor(sigma, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(bound.divisor(sigma), sigma)
    assert bound.slope(sigma) == slope


def test_an_all_zero_weight_stays_zero_and_can_learn():
    layer = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(layer.weight)
    normalize_modules([layer])
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.weight.eq(0).all()
    assert layer.trained_weight.grad.eq(1).all()
