import copy
import pickle

import pytest
import torch
from torch import nn

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm import (
    SpectralNorm,
    apply_spectral_norm,
    fold_spectral_norm,
    normalize_modules,
    spectral_norms,
)
from snojoe.spectral_norm.conv_linear import SpectralWeight

VARIANTS = [("hard", "reshape"), ("soft", "reshape"), ("hard", "operator"), ("soft", "operator")]
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trained_model(bound="hard", norm="reshape", arch="resnet10"):
    """A classifier after two steps with spectral normalisation in all its layers."""
    torch.manual_seed(0)
    model = build_classifier(arch, 3)
    handle = apply_spectral_norm(
        model, 10, bound=bound, norm=norm, coefficient=0.5, example_input=IMAGES[:1]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    handle.attach(optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module", params=VARIANTS, ids="-".join)
def trained(request):
    model = trained_model(*request.param)
    return model, request.param


def logits(model):
    with torch.no_grad():
        return model(IMAGES)


def assert_same_logits(model, other):
    torch.testing.assert_close(logits(other), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", ["reshape", "operator"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (1, 4, 4, 4)),  # the output is scaled
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 2, 2)),  # the input is scaled
        (nn.Conv2d(4, 6, 3, padding=1), (5, 4, 9, 9)),  # the weight is scaled
        (nn.Linear(30, 20), (2, 30)),  # the output is scaled
        (nn.Linear(20, 30), (2, 20)),  # the input is scaled
        (nn.Linear(4, 20), (9, 4)),  # the weight is scaled
    ],
    ids=str,
)
def test_outputs_and_gradients_are_those_of_the_divided_weight(layer, shape, norm, memory_format):
    torch.manual_seed(0)
    layer, inputs = copy.deepcopy(layer), torch.randn(shape)
    if len(shape) == 4:
        layer, inputs = (each.to(memory_format=memory_format) for each in (layer, inputs))
    apply_spectral_norm(nn.Sequential(layer), 1, norm=norm, example_input=inputs)
    state, weight = layer.spectral_norm, layer.trained_weight

    # sigma of the map (of the largest group) as u' A v, differentiable in the weight alone
    i = state.sigmas.argmax()
    images = state.norm.forward(state.norm.maps(weight), state.v[:, None])
    divided = weight / (state.u[i] @ images[i, 0])
    if isinstance(layer, nn.Linear):
        expected = nn.functional.linear(inputs, divided, layer.bias)
    else:
        expected = layer._conv_forward(inputs, divided, layer.bias)
    output = layer(inputs)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)

    along = torch.randn_like(output)
    parameters = (weight, layer.bias)
    gradients = torch.autograd.grad((expected * along).sum(), parameters, retain_graph=True)
    for mine, other in zip(
        torch.autograd.grad((output * along).sum(), parameters), gradients, strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    (read,) = torch.autograd.grad(layer.weight.square().sum(), weight)
    (other,) = torch.autograd.grad(divided.square().sum(), weight)
    torch.testing.assert_close(read, other, rtol=1e-4, atol=1e-5)


def test_a_loaded_model_gives_the_same_logits(trained, tmp_path):
    model, (bound, norm) = trained
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = build_classifier("resnet10", 3)
    apply_spectral_norm(
        loaded, 10, bound=bound, norm=norm, coefficient=0.5, example_input=IMAGES[:1]
    )
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert_same_logits(model, loaded.eval())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_gives_equal_logits_and_is_independent(trained, copied):
    model, _ = trained
    before = logits(model)
    clone = copied(model)
    assert torch.equal(logits(clone), before)
    for weight in clone.parameters():
        nn.init.constant_(weight, 0.01)
    SpectralNorm(clone).power_iteration()
    assert torch.equal(logits(model), before)


def test_a_folded_model_gives_the_same_logits(trained):
    model, _ = trained
    assert_same_logits(model, fold_spectral_norm(copy.deepcopy(model)))


def test_looking_changes_nothing(trained):
    model, _ = trained
    before = copy.deepcopy(model.state_dict())
    rng = torch.get_rng_state()
    model.train()
    for module in model.modules():
        if isinstance(module, SpectralWeight):
            assert torch.equal(module.weight, module.weight)
    spectral_norms(model)
    model.eval()
    logits(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), rng)


def test_batch_norm_in_train_mode_undoes_hard_normalisation():
    """Why BatchNorm's mode is a parameter: the batch statistics divide sigma out again."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, eps=1e-12)).double()
    normalised = copy.deepcopy(plain)
    apply_spectral_norm(normalised, 2)
    torch.testing.assert_close(normalised(IMAGES.double()), plain(IMAGES.double()))


def test_under_autocast_sigma_and_gradients_keep_float32():
    layer = nn.Linear(64, 32)
    reference = copy.deepcopy(layer)
    inputs = torch.randn(8, 64)
    for module, enabled in ((layer, True), (reference, False)):
        normalize_modules([module])
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = module(inputs)
            output.float().square().sum().backward()
            with torch.no_grad():
                module.trained_weight.mul_(1.5)
            SpectralNorm(module).power_iteration()
    assert output.dtype == torch.float32
    state = layer.spectral_norm
    assert {tensor.dtype for tensor in state.buffers()} == {torch.float32}
    exact = torch.linalg.matrix_norm(layer.trained_weight, 2).item()
    assert state.sigma.item() == pytest.approx(exact, rel=1e-5)
    # bfloat16 keeps 8 bits of what the linear layer computes, and no fewer after the division.
    ours, theirs = layer.trained_weight.grad, reference.trained_weight.grad
    assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_iterating_between_forward_and_backward_is_an_error():
    layer = nn.Linear(3, 3)
    normalize_modules([layer])
    loss = layer(torch.ones(1, 3)).sum()
    SpectralNorm(layer).power_iteration()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_derivatives_are_refused():
    layer = nn.Linear(3, 3)
    normalize_modules([layer])
    loss = layer(torch.ones(1, 3)).square().sum()
    (gradient,) = torch.autograd.grad(loss, layer.trained_weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
