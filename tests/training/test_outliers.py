"""Outlier exposure: what is drawn, and what it does to a training."""

import numpy as np
import pytest
import torch
from conftest import jpeg
from small_trainings import SIZE, killed_at, settings, states_equal

from snojoe.data.pseudo_ood import PSEUDO_OOD
from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.model.classifier import build_classifier
from snojoe.model.energy import joint_energy
from snojoe.params import SpectralNormParams
from snojoe.training import loop
from snojoe.training.batch_norm import recalibrate_batch_norm
from snojoe.training.loader import TrainSet, TrainTransform, train_loader
from snojoe.training.losses import LOSSES
from snojoe.training.outliers import AuxiliaryOutliers, PseudoOutliers

TRANSFORM = TrainTransform(SIZE, (0.5, 1.0), 0.5)


def train_set(prepared, seed=0):
    return TrainSet(prepared / "train", TRANSFORM, seed)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Five images, fewer than there are labelled ones."""
    folder = tmp_path_factory.mktemp("others")
    rows = [ShardRow(str(i), jpeg(100 + i, (SIZE, SIZE)), None) for i in range(5)]
    write_shards(folder, rows, split="train/outliers", content="image", image_size=SIZE)
    return folder


def fit(prepared, make=PseudoOutliers, sn_layers=0, checkpoint=None, **changes):
    torch.manual_seed(0)
    model, train = build_classifier("resnet10", 2), train_set(prepared)
    record = loop.train_classifier(
        model,
        train,
        Shards(prepared / "val"),
        params=settings(**changes),
        spectral_norm=SpectralNormParams(
            bound="hard", coefficient=3.0, norm="reshape", batch_norm_bound=None
        ),
        sn_layers=sn_layers,
        outliers=make and make(train),
        checkpoint=checkpoint,
    )
    return model, record


def auxiliary(others):
    return lambda train: AuxiliaryOutliers(Shards(others), TRANSFORM, train.seed, len(train))


def test_pseudo_outliers_follow_from_seed_epoch_and_index_alone(prepared):
    one, two = (PseudoOutliers(train_set(prepared)) for _ in range(2))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = [one[position] for position in range(len(one))]
    torch.manual_seed(5)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    for position in (7, 3, 0):  # in another order
        assert torch.equal(two[position], first[position])
    other = PseudoOutliers(train_set(prepared, seed=1))
    for later in (one[3 + 5 * len(one)], other[3]):  # of the same kind
        assert not torch.equal(later, first[3])


def test_each_image_makes_every_kind_in_turn(prepared):
    made = PseudoOutliers(train_set(prepared))
    n, kinds = len(made), list(PSEUDO_OOD)
    for epoch in range(5):
        crop = made.train.crop(epoch, 0).numpy()
        outlier = made[epoch * n].numpy()
        assert outlier.shape == crop.shape
        same_values = np.array_equal(np.sort(outlier, axis=None), np.sort(crop, axis=None))
        assert same_values == (kinds[epoch] == "jigsaw")
        assert not np.array_equal(outlier, crop)


def test_auxiliary_images_are_all_seen_before_one_is_again(prepared, others):
    outliers = auxiliary(others)(train_set(prepared))
    assert len(outliers) == 24
    crops = outliers.crops
    for position in (0, 4, 5, 23, 24, 119):
        assert torch.equal(outliers[position], crops.crop(position // 5, position % 5))
    assert not torch.equal(outliers[0], outliers[5])  # cropped anew
    (batch, *_) = train_loader(outliers, 8, workers=0)
    assert batch.shape == (8, SIZE, SIZE, 3)


@pytest.mark.parametrize(("kind", "sn_layers"), [("pseudo", 9), ("auxiliary", 0)])
def test_a_killed_training_goes_on_to_the_same_weights(
    prepared, others, tmp_path, monkeypatch, kind, sn_layers
):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    make = PseudoOutliers if kind == "pseudo" else auxiliary(others)
    undisturbed, record = fit(prepared, make, sn_layers, epochs=3)
    checkpoint = tmp_path / "key.pt"

    with killed_at(3):
        fit(prepared, make, sn_layers, checkpoint, epochs=3)
    assert checkpoint.exists()
    resumed, again = fit(prepared, make, sn_layers, checkpoint, epochs=3)
    assert again == record
    assert states_equal(resumed.state_dict(), undisturbed.state_dict())


def test_workers_draw_the_same_outliers(prepared):
    alone, record = fit(prepared, epochs=1)
    shared, again = fit(prepared, epochs=1, workers=1)
    assert again == record
    assert states_equal(alone.state_dict(), shared.state_dict())


def test_outliers_lose_energy(prepared, others):
    """Of what it saw as outliers, against a training that did not."""
    crops = AuxiliaryOutliers(Shards(others), TRANSFORM, 0, 24)
    pixels = torch.stack([crops[i] for i in range(24)])

    def energy(make):
        model, _ = fit(prepared, make, epochs=4, lr=0.003)
        with torch.inference_mode():
            return joint_energy(model(model.normalise(pixels)).double().numpy()).mean()

    assert energy(auxiliary(others)) < 0.8 * energy(None)


def test_batch_norm_measures_labelled_images_alone(prepared):
    model, _ = fit(prepared, epochs=1)
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    train = train_set(prepared)
    batches = (model.normalise(pixels) for pixels, _ in train_loader(train, 8, workers=0))
    recalibrate_batch_norm(model, batches)
    assert states_equal({name: model.get_buffer(name) for name in before}, before)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_costs_its_images_and_half_of_its_outliers(prepared, others, loss):
    """One step from the start, in which BatchNorm is frozen: an image's logits are its own."""
    make = auxiliary(others)
    frozen = {"freeze_after_epoch": 0, "epochs": 1, "batch_size": 24, "loss": loss}
    _, record = fit(prepared, make, **frozen)
    _, plain = fit(prepared, None, **frozen)
    torch.manual_seed(0)
    model, train = build_classifier("resnet10", 2), train_set(prepared)
    ((pixels, labels),) = train_loader(train, 24, workers=0)
    recalibrate_batch_norm(model, [model.normalise(pixels)])
    model.eval()
    (batch,) = train_loader(make(train), 24, workers=0)
    with torch.inference_mode():
        expected = LOSSES[loss](model(model.normalise(pixels)), labels).item()
        energy = joint_energy(model(model.normalise(batch)).double().numpy()).mean()
    assert plain.history[0]["train_loss"] == pytest.approx(expected, rel=1e-4)
    assert record.history[0]["train_loss"] == pytest.approx(expected + 0.5 * energy / 2, rel=1e-4)


def test_accumulated_gradients_are_those_of_the_batch(prepared):
    frozen = {"freeze_after_epoch": 0, "epochs": 1, "lr": 1e-4}
    whole, record = fit(prepared, **frozen)
    parts, split = fit(prepared, gradient_accumulation=3, **frozen)
    assert split.history[0] == pytest.approx(record.history[0], rel=1e-4)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_a_trunk_that_learns_nothing_stays_as_it_came(prepared):
    torch.manual_seed(0)
    start = build_classifier("resnet10", 2).state_dict()
    model, _ = fit(prepared, trunk_lr_factor=0.0)
    state = model.state_dict()
    moved = {name for name in state if not torch.equal(state[name], start[name])}
    assert moved
    assert all(name.startswith("head.") for name in moved)
