import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from small_trainings import SIZE, killed_at, settings, states_equal

from snojoe.data.shards import Shards
from snojoe.model.classifier import build_classifier
from snojoe.params import SpectralNormParams
from snojoe.spectral_norm import SpectralNorm, apply, fold_spectral_norm, movement
from snojoe.spectral_norm.batch_norm import fold_spectral_batch_norm
from snojoe.spectral_norm.singular_triplets import SingularTriplets
from snojoe.support.errors import SnojoeError
from snojoe.support.failures import explained
from snojoe.training import loop, processes
from snojoe.training.checkpoint import read_checkpoint, write_checkpoint
from snojoe.training.loader import TrainSet, TrainTransform
from snojoe.training.loop import _check_finite, train_classifier


def fit(prepared, sn_layers=0, checkpoint=None, batch_norm_bound=None, **changes):
    torch.manual_seed(0)
    model = build_classifier("resnet10", 2)
    record = train_classifier(
        model,
        TrainSet(prepared / "train", TrainTransform(SIZE, (0.5, 1.0), 0.5), seed=0),
        Shards(prepared / "val"),
        params=settings(**changes),
        spectral_norm=SpectralNormParams(
            bound="hard", coefficient=3.0, norm="reshape", batch_norm_bound=batch_norm_bound
        ),
        sn_layers=sn_layers,
        checkpoint=checkpoint,
    )
    fold_spectral_batch_norm(fold_spectral_norm(model))
    return model, record


def test_training_is_deterministic_and_reports_each_epoch(prepared, capsys):
    one, record = fit(prepared, sn_layers=9)
    said = capsys.readouterr().out.splitlines()
    two, again = fit(prepared, sn_layers=9)
    assert record == again
    assert states_equal(one.state_dict(), two.state_dict())
    assert [row["epoch"] for row in record.history] == [1, 2]
    assert set(record.history[0]) == {"epoch", "train_loss", "val_loss", "val_map"}
    assert len(said) == 2
    assert said[0].startswith("epoch 1/2: loss 0.")
    assert said[0].endswith("left")


def test_sigma_of_every_weight_is_recorded_before_and_after_each_epoch(prepared):
    model, record = fit(prepared, sn_layers=9)
    frame = pd.DataFrame(record.sigmas)
    weights = sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in model.modules())
    assert frame.groupby("epoch").size().to_dict() == dict.fromkeys((0, 1, 2), weights)
    inside = frame[frame.normalized]
    assert set(inside.layer) == {1, 5, 6, 7, 8}
    np.testing.assert_allclose(inside.sigma, 1, rtol=1e-2)
    last = frame[frame.epoch == 2].set_index("weight").sigma
    head = torch.linalg.svdvals(model.head.classifier.weight)[0].item()
    assert last["head.classifier.weight"] == pytest.approx(head, rel=1e-4)


def test_bounded_batch_norm_is_folded_into_a_plain_one(prepared):
    model, _ = fit(prepared, sn_layers=9, batch_norm_bound=0.5, freeze_after_epoch=1)
    for name, module in model.trunk.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert type(module) is torch.nn.BatchNorm2d
            scale = (module.weight / (module.running_var + module.eps).sqrt()).abs().max()
            assert scale <= 0.5 * (1 + 1e-5), name


@pytest.mark.parametrize("rest", [False, True])
def test_a_killed_training_goes_on_to_the_same_weights(
    prepared, tmp_path, monkeypatch, capsys, rest
):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    if rest:  # at once, and far from the exact sigma
        monkeypatch.setattr(movement, "CALM_STEPS", 0)
        monkeypatch.setattr(movement, "REST_WITHIN", 0.5)
    undisturbed, record = fit(prepared, sn_layers=9, epochs=3, schedule="one_cycle")
    checkpoint = tmp_path / "key" / "checkpoint.pt"

    with killed_at(3):
        fit(prepared, 9, checkpoint, epochs=3, schedule="one_cycle")
    capsys.readouterr()
    resumed, again = fit(prepared, 9, checkpoint, epochs=3, schedule="one_cycle")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "resuming after epoch 2 of 3"
    assert len(said) == 2
    assert again == record
    assert states_equal(resumed.state_dict(), undisturbed.state_dict())


def test_after_an_epoch_no_weight_rests(prepared, monkeypatch):
    monkeypatch.setattr(movement, "CALM_STEPS", 0)
    monkeypatch.setattr(movement, "REST_WITHIN", 0.5)
    resting: dict[str, list[int]] = {"step": [], "epoch": []}

    def count(when, model):
        triplets = [m for m in model.modules() if isinstance(m, SingularTriplets)]
        resting[when].append(sum(each.rest.rested > 0 for each in triplets))

    def validated(model, val, validate=loop.validate):
        count("epoch", model)
        return validate(model, val)

    class Counted(SpectralNorm):
        def __init__(self, model):
            super().__init__(model)
            self.model = model

        def power_iteration(self):
            super().power_iteration()
            count("step", self.model)

    monkeypatch.setattr(apply, "SpectralNorm", Counted)
    monkeypatch.setattr(loop, "validate", validated)
    fit(prepared, sn_layers=9)
    assert sum(resting["step"]) > 0
    assert resting["epoch"] == [0, 0]


def test_the_trunk_learns_at_its_own_rate(prepared):
    torch.manual_seed(0)
    start = build_classifier("resnet10", 2).state_dict()
    model, _ = fit(prepared, trunk_lr_factor=0.0, epochs=1)
    moved = {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter, start[name])
    }
    assert moved == {"head"}


def test_a_trunk_that_learns_nothing_costs_no_gradients(prepared):
    for sn_layers in (0, 8):
        model, record = fit(prepared, sn_layers, trunk_lr_factor=0.0)
        assert all(parameter.grad is None for parameter in model.trunk.parameters())
        assert all(parameter.grad is not None for parameter in model.head.parameters())
        assert record.history[1]["train_loss"] < record.history[0]["train_loss"]


@pytest.mark.parametrize("freeze", [None, 0, 1])
def test_a_trunk_that_learns_nothing_stays_as_it_came(prepared, freeze):
    torch.manual_seed(0)
    start = build_classifier("resnet10", 2).state_dict()
    model, _ = fit(prepared, trunk_lr_factor=0.0, freeze_after_epoch=freeze)
    state = model.state_dict()
    moved = {name for name in state if not torch.equal(state[name], start[name])}
    assert all(name.startswith("head.") for name in moved)
    assert "head.bn.running_mean" in moved


def test_normalised_it_has_its_statistics_measured_once(prepared):
    states = []
    for epochs in (1, 2):
        model, _ = fit(prepared, 8, trunk_lr_factor=0.0, epochs=epochs)
        states.append({name: v for name, v in model.state_dict().items() if "trunk" in name})
    start = build_classifier("resnet10", 2).state_dict()
    measured = [name for name in states[0] if name.endswith(("running_mean", "running_var"))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in measured)
    assert not any(torch.equal(states[0][name], start[name]) for name in measured)


def test_accumulated_gradients_are_those_of_the_batch(prepared):
    # BatchNorm frozen from the start: else it would see the parts. 8 images in 3, 3 and 2.
    frozen = {"freeze_after_epoch": 0, "epochs": 1, "lr": 1e-4}
    whole, record = fit(prepared, sn_layers=9, **frozen)
    parts, split = fit(prepared, sn_layers=9, gradient_accumulation=3, **frozen)
    assert split.history[0] == pytest.approx(record.history[0], rel=1e-4)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_parts_too_small_for_batch_norm_are_refused(prepared):
    # 24 images are the whole batch, whatever batch_size says.
    with pytest.raises(
        SnojoeError, match=r"gradient_accumulation: expected at most 12, .*; got 13"
    ):
        fit(prepared, batch_size=64, gradient_accumulation=13)


def test_a_model_trained_in_bf16_works_in_float32(prepared, monkeypatch):
    monkeypatch.setattr(processes, "_has_bf16", lambda: True)
    AcceleratorState._reset_state()  # or it keeps the precision of the first training
    model, _ = fit(prepared, epochs=1)
    AcceleratorState._reset_state()
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = model.eval().outputs(images).logits
        assert torch.equal(model(images), expected)


def test_batch_norm_freezes_after_the_given_epoch(prepared):
    def statistics(freeze_after_epoch, epochs):
        model, _ = fit(prepared, epochs=epochs, freeze_after_epoch=freeze_after_epoch)
        return {n: b for n, b in model.named_buffers() if "running" in n}

    after_one = statistics(None, 1)
    assert states_equal(statistics(1, 2), after_one)
    assert not states_equal(statistics(None, 2), after_one)


def test_batch_norm_over_processes_is_handled_as_the_plain_one(prepared, monkeypatch):
    """What a GPU trains with where there are several processes; here there is one."""
    plain, record = fit(prepared, 9, freeze_after_epoch=1)
    convert, build = torch.nn.SyncBatchNorm.convert_sync_batchnorm, build_classifier
    monkeypatch.setitem(globals(), "build_classifier", lambda *names: convert(build(*names)))
    converted, again = fit(prepared, 9, freeze_after_epoch=1)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in converted.modules())
    assert again == record
    assert states_equal(converted.state_dict(), plain.state_dict())


def test_hard_sn_before_batch_norm_in_train_mode_changes_no_output():
    """PAPER: the batch statistics divide sigma out again, up to BatchNorm's eps."""
    from snojoe.spectral_norm import apply_spectral_norm

    torch.manual_seed(0)
    model = build_classifier("resnet10", 2).double().train()
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-15
    images = torch.randn(4, 3, SIZE, SIZE, dtype=torch.float64)
    plain = model(images)
    frozen = model.eval()(images)
    apply_spectral_norm(model, 9)
    torch.testing.assert_close(model.train()(images), plain, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(model.eval()(images), frozen, rtol=1e-2)


def test_a_loss_that_is_not_finite_stops_and_says_so(prepared):
    with pytest.raises(SnojoeError, match=r"epoch 1, step [23]: the loss is (nan|inf).*train\.lr"):
        fit(prepared, lr=1e30, trunk_lr_factor=1.0)


def test_on_an_accelerator_the_loss_is_looked_at_now_and_then():
    total = torch.tensor(float("nan"))
    with pytest.raises(SnojoeError, match="epoch 2, steps 51 to 100: the loss is nan"):
        _check_finite(total, "epoch 2", step=100, every=50)
    with pytest.raises(SnojoeError, match="epoch 2, steps 101 to 107: the loss is nan"):
        _check_finite(total, "epoch 2", step=107, every=50)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    checkpoint = tmp_path / "key.pt"

    def write_then_spoil(*args):
        write_checkpoint(*args)
        monkeypatch.setitem(loop.LOSSES, "bce", lambda x, y: x.sum() * float("nan"))

    monkeypatch.setattr(loop, "write_checkpoint", write_then_spoil)
    with pytest.raises(SnojoeError, match="epoch 2, step 1: the loss is nan"):
        fit(prepared, 9, checkpoint, epochs=3)
    state = read_checkpoint(checkpoint)
    assert len(state["history"]) == 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_a_damaged_checkpoint_is_named_and_the_weights_stay_the_same(prepared, tmp_path, capsys):
    undisturbed, _ = fit(prepared, sn_layers=9)
    checkpoint = tmp_path / "key.pt"
    checkpoint.write_bytes(b"PK\x03\x04 half a file")
    capsys.readouterr()
    again, _ = fit(prepared, 9, checkpoint)
    said = capsys.readouterr().out
    assert "key.pt: not a checkpoint of this training" in said.splitlines()[0]
    assert states_equal(again.state_dict(), undisturbed.state_dict())


def test_a_worker_that_dies_is_named(prepared, monkeypatch):
    monkeypatch.setattr(TrainSet, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with (
        pytest.raises(SnojoeError, match=r"^train\.workers: .*worker.*; the same command goes on"),
        explained("train.batch_size", 8),
    ):
        fit(prepared, workers=1)
