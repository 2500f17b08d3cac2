import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from snojoe.spectral_norm import SpectralNorm, apply_spectral_norm, normalize_modules
from snojoe.spectral_norm.conv_linear import SpectralWeight
from snojoe.spectral_norm.movement import LOOK_ELSEWHERE_EVERY
from snojoe.support.errors import SnojoeError


def error(module):
    """Relative error of the stored sigma against the singular value decomposition."""
    exact = torch.linalg.svdvals(module.trained_weight.detach().flatten(1).double())[0]
    return abs(module.spectral_norm.sigma.item() / exact.item() - 1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(20, 30),
        nn.Linear(30, 20),
        nn.Linear(7, 1),
        nn.Linear(1, 1),
        nn.Linear(2, 2),
        nn.Conv2d(3, 16, 7),
        nn.Conv2d(16, 4, 1),
        nn.Conv2d(8, 8, 3, groups=8),
    ],
    ids=str,
)
def test_sigma_is_exact_at_once(layer):
    normalize_modules([layer])
    assert error(layer) < 1e-5


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0, 1.0], [1.0, 0.9999, 0.9998, 0.5]])
def test_equal_singular_values_do_no_harm(values):
    layer = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor(values)))
    normalize_modules([layer])
    for _ in range(5):
        SpectralNorm(layer).power_iteration()
    assert error(layer) < 1e-5


def test_a_rising_singular_value_is_noticed_although_the_old_vector_is_exact():
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([1.0, 0.5, 0.2])))
    normalize_modules([layer])
    handle = SpectralNorm(layer)
    noise = 1e-3 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    for rising in torch.linspace(0.5, 1.5, 30):
        with torch.no_grad():
            layer.trained_weight.copy_(torch.diag(torch.tensor([1.0, rising, 0.2])) + noise)
        handle.power_iteration()
        assert error(layer) < 1e-2


@pytest.mark.parametrize("lr", [1e-4, 4e-3])
def test_sigma_stays_right_at_every_step_of_a_training(lr):
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    labels = torch.from_numpy(labels)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(1024, 100), nn.ReLU(), nn.Linear(100, 10)),
    )
    handle = apply_spectral_norm(model, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    handle.attach(optimizer)
    modules = [module for module in model.modules() if isinstance(module, SpectralWeight)]
    errors = []
    for batch in torch.randperm(len(images))[: 40 * 32].split(32):
        loss = cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(max(error(module) for module in modules))
    assert len(modules) == 4
    assert max(errors) < 1e-2


def test_one_iteration_reads_each_weight_twice_where_little_moved(monkeypatch):
    from snojoe.spectral_norm.reshape_norm import ReshapeNorm

    layers = nn.Sequential(nn.Linear(30, 20), nn.Linear(30, 20), nn.Linear(20, 30))
    normalize_modules(layers)
    products = []
    for name in ("forward", "adjoint"):
        product = getattr(ReshapeNorm, name)

        def counted(self, maps, rows, product=product):
            products.append(len(maps))
            return product(self, maps, rows)

        monkeypatch.setattr(ReshapeNorm, name, counted)
    SpectralNorm(layers).power_iteration()
    assert sum(products) == 6


def test_a_weight_that_is_not_finite_stops_the_training():
    layer = nn.Linear(3, 3)
    normalize_modules([layer])
    with torch.no_grad():
        layer.trained_weight[0, 0] = torch.inf
    with pytest.raises(SnojoeError, match="not finite"):
        SpectralNorm(layer).power_iteration()


def set_to(layer, *values):
    """Make the weight diagonal."""
    with torch.no_grad():
        layer.trained_weight.copy_(torch.diag(torch.tensor(values)))


def test_an_exact_singular_vector_that_no_longer_leads_is_left():
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([1.0, 0.5, 0.2])))
    normalize_modules([layer])
    handle = SpectralNorm(layer)
    set_to(layer, 0.5, 1.2, 0.2)
    state = torch.random.get_rng_state()
    handle.power_iteration()
    assert error(layer) < 1e-5
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_second_search_now_and_then_finds_what_rounding_hides():
    torch.manual_seed(0)
    layer = nn.Linear(40, 40, bias=False)
    normalize_modules([layer])
    handle = SpectralNorm(layer)
    with torch.no_grad():
        first, rest = layer.trained_weight[:20], layer.trained_weight[20:]
        first[:, 20:] = 0
        rest[:, :20] = 0
    handle.power_iteration()
    # The vector has no part in the block that now grows beyond the other, and never gets one.
    triplets = layer.spectral_norm
    block = 20 * int(triplets.u[0, 20:].abs().max() < 1e-3)
    with torch.no_grad():
        triplets.basis[:, :, block : block + 20] = 0
        layer.trained_weight[block : block + 20] *= 3
    errors = []
    for _ in range(LOOK_ELSEWHERE_EVERY):
        handle.power_iteration()
        errors.append(error(layer))
    assert errors[0] > 0.1
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("norm", ["reshape", "operator"])
@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_the_square_of_sigma_may_be_no_float32(size, norm):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 20, 3, bias=False), nn.Flatten(), nn.Linear(720, 9))
    scaled = copy.deepcopy(plain)
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter *= size
    outputs, sigmas = [], []
    for model in (plain, scaled):
        handle = apply_spectral_norm(model, 3, norm=norm, example_input=images)
        outputs.append(model[0](images))
        outputs[-1][:, 0].sum().backward()
        handle.power_iteration()
        sigmas.append(model[0].spectral_norm.sigma)
    torch.testing.assert_close(sigmas[1] / size, sigmas[0])
    torch.testing.assert_close(*outputs)
    gradients = [model[0].trained_weight.grad for model in (plain, scaled)]
    torch.testing.assert_close(gradients[1] * size, gradients[0], rtol=1e-4, atol=1e-5)
