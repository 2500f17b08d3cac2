import numpy as np
import pytest
from conftest import model_config

from snojoe.measures.conformal import benjamini_hochberg
from snojoe.model.decision import (
    Decision,
    fit_decision,
    load_decision,
    with_false_discovery_rate,
)
from snojoe.support.errors import SnojoeError

CLASSES = ["cat", "dog", "cow"]
CALIBRATION = np.linspace(0, 4, 9)


def val(seed, n=400):
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, 2, (n, 3))
    labels[~labels.any(axis=1), 2] = 1
    return labels, rng.normal(size=(n, 3)).astype("f4")


def fitted(seed, classes=CLASSES, n=400, calibrating=None):
    labels, logits = val(seed, n)
    chosen = np.ones(n, bool) if calibrating is None else calibrating
    return fit_decision(classes, [f"VOC/{i}" for i in range(n)], labels, logits, chosen)


def model(fit, classes=CLASSES):
    fields, energies = fit
    return model_config(classes, **fields), energies


def named(*seeds):
    return {f"seed{seed}": model(fitted(seed)) for seed in seeds}


def test_an_image_is_decided_and_explained():
    logits = np.array([[[2.0, -1.0, 0.5], [-9.0, -9.0, -9.0]]])
    seen, unseen = Decision(CLASSES, 1.0, np.array([0.5, 0.2, 0.7]), CALIBRATION)(logits)
    softplus = np.log1p(np.exp(logits[0]))
    assert seen.energy == pytest.approx(softplus[0].sum())
    assert seen.energy_std is None
    assert (seen.in_distribution, unseen.in_distribution) == (True, False)
    assert (seen.p_value, unseen.p_value) == (0.8, 0.2)  # 7 and 1 of 9 are not above
    assert (seen.labels, unseen.labels) == (["cat", "dog"], [])
    assert seen.probabilities["cow"] == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert list(seen.contributions.values()) == pytest.approx(softplus[0] / softplus[0].sum())


def test_of_several_models_the_mean_decides_and_the_spread_is_told():
    logits = np.array([[[2.0, -1.0, 0.5]], [[1.0, 0.0, -2.0]]])
    (both,) = Decision(CLASSES, 1.0, np.full(3, 0.5), CALIBRATION)(logits)
    energies = np.log1p(np.exp(logits)).sum(axis=2)[:, 0]
    assert both.energy == pytest.approx(energies.mean())
    assert both.energy_std == pytest.approx(np.abs(np.diff(energies))[0] / 2**0.5)
    assert sum(both.contributions.values()) == pytest.approx(1)


def test_logits_without_energy_have_no_shares():
    (nothing,) = Decision(CLASSES, 1.0, np.full(3, 0.5), CALIBRATION)(np.full((1, 1, 3), -1e4))
    assert set(nothing.contributions.values()) == {0.0}


@pytest.mark.parametrize(
    ("accept", "confidence", "accepted"),
    [(0.8, None, 321), (0.95, None, 381), (0.99, None, 397), (0.95, 0.95, 388)],
)
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_as_many_are_accepted_as_new_images_ask_for(accept, confidence, accepted, seeds):
    """Of 400: 401 - floor((1 - accept) 401), or what holds with confidence."""
    decision = load_decision(named(*seeds), accept, confidence)
    detections = decision(np.stack([val(seed)[1] for seed in seeds]))
    assert sum(d.in_distribution for d in detections) == accepted
    if confidence is None:
        assert all(d.in_distribution == (d.p_value > 1 - accept + 1e-9) for d in detections)


def test_too_few_images_promise_nothing_with_confidence():
    few = {"a": model(fitted(0, n=50))}
    assert load_decision(few).tau == pytest.approx(np.sort(few["a"][1])[1])
    with pytest.raises(SnojoeError, match=r"on 50 images of val.* at least 59"):
        load_decision(few, 0.95, 0.95)
    with pytest.raises(SnojoeError, match="confidence: expected a share"):
        load_decision(few, 0.95, 1.0)


def test_a_part_of_val_is_there_to_choose_on_and_the_other_to_calibrate():
    labels, logits = val(0)
    calibrating = np.arange(400) % 2 == 0
    before = fit_decision(CLASSES, list(map(str, range(400))), labels, logits, calibrating)
    logits[~calibrating] += 3
    after = fit_decision(CLASSES, list(map(str, range(400))), labels, logits, calibrating)
    assert after[0]["threshold"] == before[0]["threshold"]
    np.testing.assert_array_equal(after[1], before[1])
    assert after[0]["label_thresholds"] != before[0]["label_thresholds"]
    assert (after[0]["val"].images, after[0]["val"].choosing) == (200, 200)


def test_false_alarms_among_all_images_are_held_down():
    energies = np.r_[np.linspace(-3, 4, 30), np.full(20, -9.0)]
    logits = np.log(np.expm1(np.maximum(energies, 1e-3)))[None, :, None]
    found = Decision(["cat"], 0.0, np.full(1, 0.5), np.linspace(0.5, 4, 99))(logits)
    together = with_false_discovery_rate(found, 0.1)
    flagged = benjamini_hochberg([each.p_value for each in found], 0.1)
    assert [not each.in_distribution for each in together] == flagged.tolist()
    assert 20 <= flagged.sum() < 50


def test_the_mean_of_the_models_thresholds_would_accept_more():
    models = named(0, 1, 2)
    mean = np.mean([config.threshold.tau for config, _ in models.values()])
    assert load_decision(models).tau > mean + 0.1


def test_a_label_without_a_positive_in_val_has_the_threshold_one_half():
    labels, logits = val(0)
    labels[:, 1] = 0
    ids, half = [str(i) for i in range(400)], np.arange(400) < 200
    config, energies = model(fit_decision(CLASSES, ids, labels, logits, half))
    assert config.label_thresholds["dog"] is None
    assert load_decision({"a": (config, energies)}).label_thresholds[1] == 0.5


def test_tau_is_fitted_on_images_with_a_label():
    labels, logits = val(0)
    ids = [f"VOC/{i}" for i in range(400)]
    half = np.arange(420) % 2 == 0
    fields, energies = fit_decision(CLASSES, ids, labels, logits, half[:400])
    none = np.zeros((20, 3), int)
    low = np.full((20, 3), -9.0, "f4")
    more = [*ids, *(f"empty/{i}" for i in range(20))]
    both = fit_decision(CLASSES, more, np.vstack([labels, none]), np.vstack([logits, low]), half)
    assert both[0]["threshold"] == fields["threshold"]
    np.testing.assert_array_equal(both[1], energies)
    assert (fields["val"].negatives, both[0]["val"].negatives) == (0, 10)
    assert fields["val"].sha256 == both[0]["val"].sha256
    with pytest.raises(SnojoeError, match="val: expected images with a label"):
        fit_decision(CLASSES, more[400:], none, low, half[400:])


def test_models_that_do_not_belong_together_are_named():
    models = named(0)
    with pytest.raises(SnojoeError, match="seed0 and other: expected the same images in val"):
        load_decision(models | {"other": model(fitted(1, n=300))})
    classes = ["a", "b", "c"]
    with pytest.raises(SnojoeError, match="seed0 and other: expected the same classes"):
        load_decision(models | {"other": model(fitted(1, classes), classes)})


@pytest.mark.parametrize("accept", [0, 95, float("nan")])
def test_an_impossible_acceptance_is_refused(accept):
    with pytest.raises(SnojoeError, match=r"accept: expected a share in \(0, 1\]"):
        load_decision(named(0), accept)
