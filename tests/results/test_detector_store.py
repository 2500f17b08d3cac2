"""What the score stage keeps of the detectors that it measures."""

import shutil

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor
from test_grids import SEEDS, SIZES, write_experiment

from snojoe.data.shards import ShardRow, write_shards
from snojoe.data.stable import calibration_part
from snojoe.detectors import DETECTORS, LOF
from snojoe.detectors.store import read_store
from snojoe.inference.tuned import Tuned, write_tuning
from snojoe.measures.thresholds import calibrated_threshold
from snojoe.model.folder import names_digest, weights_digest
from snojoe.results import grids
from snojoe.results.detector_store import score_and_keep
from snojoe.results.grids import ScoreRow, fit_row, score_grid
from snojoe.support.files import check_sums

NAMES = ("odin", "joint_energy", "lof", "mahalanobis", "knn", "vim")
VIM = ScoreRow("vim", "sn", 9)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "DETECTORS", {name: DETECTORS[name] for name in NAMES})
    return write_experiment(tmp_path)


def test_each_score_is_measured_as_in_the_tables_unless_it_learns_from_val(experiment, monkeypatch):
    expected = score_grid(experiment, 9)
    fitted = []
    for name in ("fit_detector", "fit_variants"):
        fit = getattr(grids, name)
        monkeypatch.setattr(
            grids, name, lambda *a, fit=fit, **k: fitted.append(a[0]) or fit(*a, **k)
        )
    grid, *_ = score_and_keep(experiment, 9)
    on_train = [name for name in NAMES if DETECTORS[name].fitted_on == "train"]
    assert on_train
    assert all(fitted.count(name) == 2 * len(SEEDS) for name in on_train)
    for row in expected.id:
        for name, scores in expected.scores(row).items():
            assert np.array_equal(grid.scores(row)[name], scores)
            store = read_store(experiment.folders.detectors_of(row.sn_layers, SEEDS[1]))
            same = np.array_equal(store.measured[row.score][name], scores[1])
            assert same == (row.score != "lof")


def test_what_learns_from_val_is_kept_as_fitted_on_the_images_to_choose(experiment):
    score_and_keep(experiment, 9)
    store = read_store(experiment.folders.detectors_of(9, 4))
    lof = LOF().fit(experiment.to_choose(9, 4).logits)
    near = experiment.outputs(9, 4, "near")
    expected = lof.score_samples(near.logits)
    np.testing.assert_allclose(store.measured["lof"]["near"], expected)
    assert np.array_equal(store.detector("lof").score_outputs(near), expected)


@pytest.mark.parametrize("part", ["to choose", "to calibrate"])
def test_what_is_matched_on_val_sees_the_images_to_choose_and_no_other(experiment, part):
    before = fit_row(experiment, VIM, 4, experiment.outputs(9, 4, "val")).alpha_
    calibrating = calibration_part([f"a/{i}.jpg" for i in range(SIZES["val"])], [[]] * SIZES["val"])
    path = experiment.folders.outputs(9, 4, "val") / "hidden.npy"
    hidden = np.load(path)
    hidden[calibrating == (part == "to calibrate")] *= 2
    np.save(path, hidden)
    after = fit_row(experiment, VIM, 4, experiment.outputs(9, 4, "val")).alpha_
    assert (after == before) == (part == "to calibrate")
    score_and_keep(experiment, 9)
    assert read_store(experiment.folders.detectors_of(9, 4)).detector("vim").alpha_ == after


def test_they_are_calibrated_on_the_images_for_it_that_show_a_class(experiment):
    score_and_keep(experiment, 9)
    assert not experiment.folders.detectors_of(7, 4).exists()
    folder = experiment.folders.detectors_of(9, 4)
    check_sums(folder)
    store = read_store(folder)
    assert store.model == weights_digest(experiment.folders.model(9, 4))
    val = experiment.outputs(9, 4, "val")
    ids = [f"a/{i}.jpg" for i in range(SIZES["val"])]
    shown = experiment.shards("val").labels().any(axis=1)
    on = calibration_part(ids, [[]] * len(ids)) & shown
    assert 0 < on.sum() < calibration_part(ids, [[]] * len(ids)).sum()
    assert store.val == names_digest([name for name, each in zip(ids, on, strict=True) if each])
    for name in NAMES:
        detector = store.detector(name)
        expected = detector.score_outputs(val.rows(on))
        np.testing.assert_allclose(detector.calibration_, expected, rtol=1e-9)
        assert detector.offset_ == calibrated_threshold(detector.calibration_)


def test_of_test_the_images_that_show_a_class_are_kept(experiment):
    labels = np.ones((SIZES["test"], 3), np.uint8)
    labels[:6] = 0
    np.save(experiment.folders.outputs(9, 4, "test") / "labels.npy", labels)
    grid, *_ = score_and_keep(experiment, 9)
    measured = read_store(experiment.folders.detectors_of(9, 4)).measured["knn"]
    assert np.array_equal(measured["id"], grid.id[ScoreRow("knn", "sn", 9)][1, 6:])


def test_where_test_is_val_only_images_that_calibrate_nothing_are_measured(experiment):
    val = experiment.shards("val")
    ids = [f"a/{i}.jpg" for i in range(SIZES["val"])]
    rows = [ShardRow(name, bytes(12), of, []) for name, of in zip(ids, val.labels(), strict=True)]
    target = experiment.folders.shards("test")
    write_shards(target, rows, split="test", content="pixels", image_size=2)
    for depth in (0, 9):
        for seed in SEEDS:
            test = experiment.folders.outputs(depth, seed, "test")
            shutil.rmtree(test)
            shutil.copytree(experiment.folders.outputs(depth, seed, "val"), test)
    score_and_keep(experiment, 9)
    store = read_store(experiment.folders.detectors_of(9, 4))
    assert "lof" in store.scores()
    assert store.measured.keys() == {*NAMES} - {"lof"}
    rest = experiment.to_choose(9, 4)
    rest = rest.rows(rest.labels.any(axis=1))
    np.testing.assert_allclose(
        store.measured["knn"]["id"], store.detector("knn").score_outputs(rest), rtol=1e-9
    )


def test_a_score_that_cannot_be_stored_is_in_the_tables_alone(experiment, monkeypatch, capsys):
    monkeypatch.delattr(DETECTORS["lof"], "_rebuild")
    monkeypatch.setattr(
        DETECTORS["lof"],
        "_fit",
        lambda self, X, y: setattr(
            self, "lof_", LocalOutlierFactor(n_neighbors=5, novelty=True).fit(X)
        ),
    )
    grid, *_ = score_and_keep(experiment, 9)
    assert ScoreRow("lof", "sn", 9) in grid.id
    assert "lof.lof_: a scikit-learn estimator is not stored" in capsys.readouterr().out
    there = {p.stem for p in experiment.folders.detectors_of(9, 4).glob("*.safetensors")}
    assert there == {*NAMES, "measured"} - {"lof"}


def test_a_score_with_noise_is_calibrated_and_measured_on_noisy_images(experiment):
    tuning = {
        "odin": Tuned(eps=0.002, params={"temperature": 10.0}, fpr95=1.0),
        "mahalanobis": Tuned(eps=0.0, params={}, fpr95=1.0),
    }
    write_tuning(experiment.folders.tuned(9, 4), tuning)
    for name in ("val", *experiment.test_sets.values()):
        folder = experiment.folders.outputs(9, 4, name)
        np.save(folder / "odin_logits.npy", np.load(folder / "logits.npy") - 1)
    clean = read_clean(experiment)
    grid, *_ = score_and_keep(experiment, 9)
    store = read_store(experiment.folders.detectors_of(9, 4))
    assert store.noise == {"odin": 0.002}
    assert "odin" not in store.pseudo_fpr95
    detector = store.detector("odin")
    assert detector.temperature == 10.0
    np.testing.assert_allclose(detector.calibration_, clean["calibration"] - 0.1, rtol=1e-6)
    np.testing.assert_allclose(store.measured["odin"]["id"], clean["id"] - 0.1, rtol=1e-6)
    np.testing.assert_array_equal(
        store.measured["odin"]["id"], grid.scores(ScoreRow("odin", "sn", 9))["id"][1]
    )


def read_clean(experiment):
    """ODIN's scores without noise, at T = 10."""
    calibrating = experiment.to_calibrate(9, 4, "max_logit").logits
    return {
        "calibration": np.asarray(calibrating).max(axis=1) / 10,
        "id": np.asarray(experiment.outputs(9, 4, "test").logits).max(axis=1) / 10,
    }
