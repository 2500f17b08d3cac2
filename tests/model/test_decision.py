import numpy as np
import pytest
from conftest import model_config

from snojoe.model.decision import Decision, fit_decision, load_decision
from snojoe.support.errors import SnojoeError

CLASSES = ["cat", "dog", "cow"]


def val(seed, n=400):
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, 2, (n, 3))
    labels[~labels.any(axis=1), 2] = 1
    return labels, rng.normal(size=(n, 3)).astype("f4")


def fitted(seed, classes=CLASSES, n=400):
    labels, logits = val(seed, n)
    return fit_decision(classes, [f"VOC/{i}" for i in range(n)], labels, logits)


def model(fit, classes=CLASSES):
    fields, energies = fit
    return model_config(classes, **fields), energies


def named(*seeds):
    return {f"seed{seed}": model(fitted(seed)) for seed in seeds}


def test_an_image_is_decided_and_explained():
    logits = np.array([[[2.0, -1.0, 0.5], [-9.0, -9.0, -9.0]]])
    seen, unseen = Decision(CLASSES, tau=1.0, label_thresholds=np.array([0.5, 0.2, 0.7]))(logits)
    softplus = np.log1p(np.exp(logits[0]))
    assert seen.energy == pytest.approx(softplus[0].sum())
    assert seen.energy_std is None
    assert (seen.in_distribution, unseen.in_distribution) == (True, False)
    assert (seen.labels, unseen.labels) == (["cat", "dog"], [])
    assert seen.probabilities["cow"] == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert list(seen.contributions.values()) == pytest.approx(softplus[0] / softplus[0].sum())


def test_of_several_models_the_mean_decides_and_the_spread_is_told():
    logits = np.array([[[2.0, -1.0, 0.5]], [[1.0, 0.0, -2.0]]])
    (both,) = Decision(CLASSES, 1.0, np.full(3, 0.5))(logits)
    energies = np.log1p(np.exp(logits)).sum(axis=2)[:, 0]
    assert both.energy == pytest.approx(energies.mean())
    assert both.energy_std == pytest.approx(np.abs(np.diff(energies))[0] / 2**0.5)
    assert sum(both.contributions.values()) == pytest.approx(1)


def test_logits_without_energy_have_no_shares():
    (nothing,) = Decision(CLASSES, 1.0, np.full(3, 0.5))(np.full((1, 1, 3), -1e4))
    assert set(nothing.contributions.values()) == {0.0}


@pytest.mark.parametrize("accept", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_as_many_val_images_are_accepted_as_asked_for(accept, seeds):
    decision = load_decision(named(*seeds), accept)
    detections = decision(np.stack([val(seed)[1] for seed in seeds]))
    assert np.mean([d.in_distribution for d in detections]) == accept


def test_the_mean_of_the_models_thresholds_would_accept_more():
    models = named(0, 1, 2)
    mean = np.mean([config.threshold.tau for config, _ in models.values()])
    assert load_decision(models).tau > mean + 0.1


def test_a_label_without_a_positive_in_val_has_the_threshold_one_half():
    labels, logits = val(0)
    labels[:, 1] = 0
    config, energies = model(fit_decision(CLASSES, [str(i) for i in range(400)], labels, logits))
    assert config.label_thresholds["dog"] is None
    assert load_decision({"a": (config, energies)}).label_thresholds[1] == 0.5


def test_tau_is_fitted_on_images_with_a_label():
    labels, logits = val(0)
    ids = [f"VOC/{i}" for i in range(400)]
    fields, energies = fit_decision(CLASSES, ids, labels, logits)
    none = np.zeros((20, 3), int)
    low = np.full((20, 3), -9.0, "f4")
    more = [*ids, *(f"empty/{i}" for i in range(20))]
    both = fit_decision(CLASSES, more, np.vstack([labels, none]), np.vstack([logits, low]))
    assert both[0]["threshold"] == fields["threshold"]
    np.testing.assert_array_equal(both[1], energies)
    assert (fields["val"].negatives, both[0]["val"].negatives) == (0, 20)
    assert fields["val"].sha256 == both[0]["val"].sha256
    with pytest.raises(SnojoeError, match="val: expected images with a label"):
        fit_decision(CLASSES, more[400:], none, low)


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
