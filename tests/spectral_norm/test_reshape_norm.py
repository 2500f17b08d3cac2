import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from snojoe.spectral_norm import SpectralNorm, normalize_modules


def layers():
    torch.manual_seed(0)
    return [nn.Linear(20, 8), nn.Linear(8, 20), nn.Conv2d(4, 6, 3, bias=False), nn.Conv2d(6, 3, 1)]


def batch_for(layer):
    generator = torch.Generator().manual_seed(1)
    shape = (5, layer.in_features) if isinstance(layer, nn.Linear) else (2, layer.in_channels, 7, 7)
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("layer", layers(), ids=str)
def test_gradients_agree_with_torch_given_the_same_vectors(layer):
    ours, torchs = copy.deepcopy(layer), copy.deepcopy(layer)
    normalize_modules([ours])
    parametrizations.spectral_norm(torchs)
    state = ours.spectral_norm
    torchs.parametrizations.weight[0]._u.copy_(state.u[0])
    torchs.parametrizations.weight[0]._v.copy_(state.v[0])
    torchs.eval()  # or torch would iterate at every access
    for module in (ours, torchs):
        module(batch_for(layer)).pow(3).mean().backward()
    gradients = [ours.trained_weight.grad, torchs.parametrizations.weight.original.grad]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", ["hard", "soft"])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_gradient_is_that_of_the_divisor(bound, scale):
    """Against numerical differentiation in float64, sigma recomputed at each point."""
    layer = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.mul_(scale)
    direction = torch.randn(3, 4, dtype=torch.float64)
    weight = layer.weight.detach().clone()

    def value(weight):
        sigma = torch.linalg.matrix_norm(weight, 2)
        divisor = sigma if bound == "hard" else max(1.0, sigma / 3.0)
        return (weight / divisor * direction).sum()

    normalize_modules([layer], bound=bound)
    (layer.weight * direction).sum().backward()
    for index in [(0, 0), (2, 3)]:
        step = torch.zeros_like(weight)
        step[index] = 1e-6
        numerical = (value(weight + step) - value(weight - step)) / 2e-6
        gradient = layer.trained_weight.grad[index]
        assert gradient.item() == pytest.approx(numerical.item(), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", [(4, 6), (9, 3), (2, 40)])
def test_channels_last_weights_give_the_same(kernel, channels):
    torch.manual_seed(0)
    plain = nn.Conv2d(*channels, kernel, bias=False)
    normalize_modules([plain])
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    for conv in (plain, last):
        optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
        SpectralNorm(conv).attach(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            conv(batch_for(conv)).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(last.trained_weight, plain.trained_weight, rtol=0, atol=1e-3)
    for name in ("u", "v", "sigmas"):
        ours, theirs = (getattr(conv.spectral_norm, name) for conv in (last, plain))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-2)
