import copy
import io

import pytest
import torch
from torch import nn

from snojoe.spectral_norm import SpectralNorm, apply_spectral_norm, normalize_modules
from snojoe.spectral_norm.movement import (
    CALM_STEPS,
    LONGEST_REST,
    REST_WITHIN,
    Rest,
    move_grams,
    sampled_rows,
    spectral_norms_of,
)
from snojoe.spectral_norm.norms import norm_of
from snojoe.spectral_norm.shapes import convolution_shapes


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(weight):
    matrix = weight.detach().flatten(1).double()
    return float(torch.linalg.eigvalsh(matrix @ matrix.mT)[-1].sqrt())


def moved(before, after, stretch=1.0):
    """How far a weight is said to have moved, by its sigma before."""
    sigma = torch.tensor([exact(before)])
    grams = move_grams([after], [sampled_rows(before)], sigma, stretch)
    return spectral_norms_of(grams.double())[0]


@pytest.mark.parametrize("shape", [(1, 7), (5, 40), (16, 3), (16, 4, 3, 3)])
def test_a_small_weight_is_seen_whole(shape):
    before, step = drawn(*shape), 1e-2 * drawn(*shape, seed=1)
    share = exact(step) / exact(before)
    assert share * (1 - 1e-5) <= moved(before, before + step) <= 1.1 * share


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rank", [1, 3, 128])
def test_of_a_large_weight_sixteen_rows_say_how_far_it_went(rank, layout):
    before = drawn(128, 64, 3, 3)
    step = (drawn(128, rank, seed=1) @ drawn(rank, 576, seed=2)).view_as(before)
    before, step = (each.contiguous(memory_format=layout) for each in (before, step))
    share = exact(step) / exact(before)
    assert 0.7 * share < moved(before, before + step) < 2 * share


def test_no_move_is_nothing_and_what_is_not_finite_is_no_number():
    weight = drawn(20, 30)
    assert moved(weight, weight) == 0
    assert not moved(weight, torch.full_like(weight, torch.inf)) <= REST_WITHIN


def test_sigma_of_a_convolution_moves_by_no_more_than_the_stretched_matrix():
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    shapes = convolution_shapes(conv, torch.zeros(1, 3, 8, 8))
    norm = norm_of(conv, "operator", shapes)
    with torch.no_grad():
        conv.weight.fill_(1.0)  # adds up at every pixel: the worst that there is
    operator = apply_spectral_norm(
        nn.Sequential(conv), 1, norm="operator", example_input=torch.zeros(1, 3, 8, 8)
    )
    sigma = float(operator._modules[0].spectral_norm.sigma)
    stretch = norm.stretch(conv.trained_weight)
    assert 0.8 * stretch < sigma / exact(conv.trained_weight) <= stretch


def rest(calm=CALM_STEPS, rested=1, steps=1000):
    return Rest(steps=steps, calm=calm, rested=rested)


def test_a_weight_rests_after_many_small_steps_and_not_for_long():
    assert rest().allows(REST_WITHIN)
    assert not rest(calm=CALM_STEPS - 1).allows(0.0)
    assert not rest().allows(1.01 * REST_WITHIN)
    assert rest(rested=LONGEST_REST).allows(0.0)
    assert not rest(rested=LONGEST_REST + 1).allows(0.0)
    assert not rest(steps=1024).allows(0.0)


def test_small_steps_are_counted_until_a_large_one():
    record = Rest()
    for moved, calm in [(0.004, 1), (0.004, 2), (0.006, 0), (0.0, 1), (float("nan"), 0)]:
        record.rested += 1
        record.end(moved)
        assert (record.calm, record.rested) == (calm, 0)
    record.rested = 3
    record.end(0.014)
    assert record.calm == 3


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.Flatten(), nn.Linear(96, 40)
    )


def fine_tune(model, handle, optimizer, steps, *, first=0):
    """Take steps, and return for each the largest error of sigma and how many weights rest."""
    record = []
    for step in range(first, first + steps):
        images, targets = drawn(8, 3, 6, 6, seed=step), drawn(8, 40, seed=step)
        optimizer.zero_grad()
        (model(images) - targets).square().mean().backward()
        optimizer.step()
        handle.power_iteration()
        record.append(state_of(model))
    return record


def state_of(model):
    layers = [module for module in model if hasattr(module, "spectral_norm")]
    errors = [abs(float(m.spectral_norm.sigma) / exact(m.trained_weight) - 1) for m in layers]
    return max(errors), sum(m.spectral_norm.rest.rested > 0 for m in layers)


def normalised(lr):
    model = small_network()
    return model, apply_spectral_norm(model, 5), torch.optim.Adam(model.parameters(), lr=lr)


@pytest.mark.parametrize("lr", [1e-5, 1e-4])
def test_weights_rest_in_a_fine_tuning_and_sigma_stays_right(lr):
    model, handle, optimizer = normalised(lr)
    record = fine_tune(model, handle, optimizer, CALM_STEPS + 80)
    errors, resting = zip(*record, strict=True)
    assert sum(resting[:CALM_STEPS]) == 0
    assert sum(resting[CALM_STEPS:]) > 3 * 80 / 2
    assert max(errors) < REST_WITHIN
    handle.refresh()
    error, rests = state_of(model)
    assert error < 1e-3
    assert rests == 0


def test_no_weight_rests_at_a_rate_as_from_scratch():
    model, handle, optimizer = normalised(1e-2)
    record = fine_tune(model, handle, optimizer, CALM_STEPS + 40)
    assert not any(resting for _, resting in record)


def test_a_jump_of_the_rate_ends_the_rest_in_that_step():
    model, handle, optimizer = normalised(1e-5)
    fine_tune(model, handle, optimizer, CALM_STEPS + 10)
    optimizer.param_groups[0]["lr"] = 1e-2
    record = fine_tune(model, handle, optimizer, 30, first=500)
    assert max(error for error, _ in record) < REST_WITHIN
    assert not any(resting for _, resting in record)


def test_a_training_that_is_resumed_while_weights_rest_ends_in_the_same_bits():
    model, handle, optimizer = normalised(1e-4)
    fine_tune(model, handle, optimizer, CALM_STEPS + 7)
    assert state_of(model)[1] > 0
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    undisturbed = fine_tune(model, handle, optimizer, 20, first=900)

    again, handle, optimizer = normalised(1e-4)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    assert fine_tune(again, handle, optimizer, 20, first=900) == undisturbed
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_copy_has_a_record_of_its_own():
    layer = nn.Linear(4, 4)
    normalize_modules([layer])
    twin = copy.deepcopy(layer)
    SpectralNorm(twin).power_iteration()
    assert (layer.spectral_norm.rest.steps, twin.spectral_norm.rest.steps) == (0, 1)
