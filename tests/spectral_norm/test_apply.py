import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm import (
    SpectralNorm,
    apply_spectral_norm,
    fold_spectral_norm,
    normalize_modules,
    normalized_weights,
)
from snojoe.spectral_norm.conv_linear import SpectralWeight


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 2)
    )


def normalized(model):
    return [f"{name}.weight" for name, m in model.named_modules() if isinstance(m, SpectralWeight)]


@pytest.mark.parametrize("sn_layers", range(6))
def test_exactly_the_named_weights_are_normalised(sn_layers):
    model = small_model()
    names = normalized_weights(model, sn_layers)
    apply_spectral_norm(model, sn_layers)
    assert normalized(model) == names


@pytest.mark.parametrize(("sn_layers", "bound"), [(0, "hard"), (5, "none")])
def test_normalising_nothing_leaves_the_model_alone(sn_layers, bound):
    model = small_model()
    before = copy.deepcopy(model)
    apply_spectral_norm(model, sn_layers, bound=bound).power_iteration()
    fold_spectral_norm(model)
    assert list(model.state_dict()) == list(before.state_dict())
    torch.testing.assert_close(model.state_dict(), before.state_dict(), rtol=0, atol=0)


def test_a_folded_model_is_a_plain_one():
    model = build_classifier("resnet10", 3)
    plain = copy.deepcopy(model)
    parameters = {id(parameter) for parameter in model.parameters()}
    apply_spectral_norm(model, 10)
    fold_spectral_norm(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert {id(parameter) for parameter in model.parameters()} == parameters


def test_the_attached_optimiser_iterates_once_per_step_until_removed():
    model = nn.Linear(4, 4, bias=False)
    normalize_modules([model])
    state = model.spectral_norm
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    hook = SpectralNorm(model).attach(optimizer)
    sigmas = [state.sigma.item()]
    for _ in range(3):
        if len(sigmas) == 3:
            hook.remove()
        optimizer.zero_grad()
        model(torch.eye(4)).square()[0].sum().backward()
        optimizer.step()
        sigmas.append(state.sigma.item())
    assert len(set(sigmas)) == 3
    assert sigmas[2] == sigmas[3]


def test_folding_a_deep_copy_leaves_the_original_normalised():
    model = small_model()
    apply_spectral_norm(model, 5)
    fold_spectral_norm(copy.deepcopy(model))
    weight = model[0].weight.detach().flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, rel=1e-5)


def test_a_handle_outlives_folding():
    model = small_model()
    handle = apply_spectral_norm(model, 5)
    fold_spectral_norm(model)
    before = copy.deepcopy(model.state_dict())
    handle.power_iteration()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_module_that_occurs_twice_is_normalised_once():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared))
    expected = shared.weight / torch.linalg.matrix_norm(shared.weight, 2)
    apply_spectral_norm(model, 2)
    torch.testing.assert_close(shared.weight, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sn_layers": 6}, "sn_layers=6: .* 0 to 5"),
        ({"bound": "Hard"}, "bound='Hard': expected none, hard or soft"),
        ({"norm": "frobenius"}, "norm='frobenius': expected reshape or operator"),
        ({"coefficient": 0.0}, "coefficient=0.0: expected a positive number"),
        ({"coefficient": float("nan")}, "coefficient=nan: expected a positive number"),
        ({"norm": "operator"}, "example_input"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_changed(arguments, message):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        apply_spectral_norm(model, **{"sn_layers": 5, **arguments})
    assert not normalized(model)


def test_a_convolution_that_the_example_does_not_reach_is_named():
    model = small_model()
    with pytest.raises(ValueError, match=r"did not reach Conv2d\(4, 4"):
        normalize_modules(model, norm="operator", shapes={model[0]: ((3, 5, 5), (4, 3, 3))})


def test_a_weight_that_is_not_finite_is_refused():
    model = small_model()
    nn.init.constant_(model[2].weight, torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        apply_spectral_norm(model, 5)
    assert not normalized(model)


class Doubled(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    "layer",
    [
        Doubled(3, 4, 3),
        parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
        apply_spectral_norm(nn.Sequential(nn.Conv2d(3, 4, 3)), 1)._modules[0],
    ],
    ids=["of its own", "parametrised", "normalised"],
)
def test_a_layer_that_is_not_the_plain_one_is_refused(layer):
    model = small_model()
    model[0] = layer
    with pytest.raises(ValueError, match=r"expected a plain Conv2d or Linear, got \w+\("):
        apply_spectral_norm(model, 5)
    assert type(model[2]) is nn.Conv2d
