"""Detectors of one score with other values of its hyperparameters, fitted and scored together."""

import numpy as np
import pytest
from sklearn.model_selection import ParameterGrid

from snojoe.detectors import DETECTORS, LinearHead, ModelOutputs, fit_detector, fit_variants
from snojoe.detectors import neco as neco_module
from snojoe.detectors import residual as residual_module
from snojoe.detectors.knn import KNN
from snojoe.detectors.nn_guide import NNGuide
from snojoe.detectors.residual import Residual

WITH_GRID = [name for name, detector in DETECTORS.items() if detector.grid]
HEAD = LinearHead(np.random.default_rng(5).normal(size=(4, 12)), np.arange(4.0))


def outputs(seed, n=150):
    rng = np.random.default_rng(seed)
    hidden = np.abs(rng.normal(size=(n, 12))).astype(np.float32)
    labels = rng.integers(0, 2, (n, 4))
    return ModelOutputs(rng.normal(size=(n, 4)), rng.normal(size=(n, 9)), hidden, labels)


TRAIN, VAL, NEW = outputs(0), outputs(1), outputs(2, n=40)


def test_which_scores_have_something_to_tune():
    assert set(DETECTORS) - set(WITH_GRID) == {
        *("max_logit", "msp", "odin", "joint_energy", "sum_logit", "sum_prob"),
        *("mahalanobis", "mahalanobis_hidden", "mahalanobis_pp", "mahalanobis_pp_features"),
        *("relative_mahalanobis", "relative_mahalanobis_features", "gaussian_mixture"),
        *("co_occurrence", "feature_norm", "feature_norm_hidden", "grad_norm", "fdbd", "she"),
        *("grad_norm_joint_energy", "kl_matching", "max_cosine"),
    }


@pytest.mark.parametrize("name", WITH_GRID)
def test_a_grid_has_the_default_and_no_value_twice(name):
    params = DETECTORS[name]().get_params()
    for parameter, values in DETECTORS[name].grid.items():
        assert params[parameter] in values
        assert len(set(values)) == len(values) > 1
    assert set(params) - set(DETECTORS[name].grid) <= {"accept", "random_state"}


@pytest.mark.parametrize("name", DETECTORS)
def test_variants_are_the_points_of_the_grid_the_detector_itself_first(name):
    detector = DETECTORS[name](accept=0.9)
    variants = [each.get_params() for each in detector.variants()]
    assert variants[0] == detector.get_params()
    points = list(ParameterGrid(DETECTORS[name].grid))
    assert len(variants) == len(points)
    assert all({**detector.get_params(), **point} in variants for point in points)


def test_a_detector_with_a_value_of_its_own_is_a_variant_besides():
    assert [each.k for each in KNN(k=7).variants()] == [7, *KNN.grid["k"]]


@pytest.mark.parametrize("name", DETECTORS)
def test_together_they_are_what_each_is_alone(name):
    variants = fit_variants(name, TRAIN, VAL, HEAD)
    together = DETECTORS[name].score_variants(variants, NEW)
    distinct = set()
    # A product of matrices rounds by its shape, which follows the largest k.
    rtol = 1e-12 if name in ("knn", "knn_features", "nn_guide") else 0
    for variant, scores in zip(variants, together, strict=True):
        alone = fit_detector(name, TRAIN, VAL, HEAD, **variant.get_params())
        np.testing.assert_allclose(scores, alone.score_outputs(NEW), rtol=rtol)
        np.testing.assert_allclose(scores, variant.score_outputs(NEW), rtol=rtol)
        assert variant.offset_ == alone.offset_
        distinct.add(scores.tobytes())
    assert (len(distinct) > 1) == (len(variants) > 1)


@pytest.mark.parametrize("name", ["neco", "residual", "vim"])
def test_what_takes_long_is_done_once(name, monkeypatch):
    calls = []
    eigh = np.linalg.eigh
    for module in (neco_module, residual_module):
        monkeypatch.setattr(module.np.linalg, "eigh", lambda *a: calls.append(a) or eigh(*a))
        break  # both name the same NumPy
    fit_variants(name, TRAIN, VAL, HEAD)
    assert len(calls) == 1


def test_neighbours_are_searched_once(monkeypatch):
    variants = fit_variants("knn", TRAIN, VAL, HEAD)
    asked = []
    nearest = KNN._nearest
    monkeypatch.setattr(KNN, "_nearest", lambda *a: asked.append(a[2]) or nearest(*a))
    KNN.score_variants(variants, NEW)
    assert asked == [max(KNN.grid["k"][1:])]
    assert all(each.directions_ is variants[0].directions_ for each in variants)
    assert all(each._search is variants[0]._search for each in variants)


def test_similarities_are_computed_once(monkeypatch):
    variants = fit_variants("nn_guide", TRAIN, VAL, HEAD)
    asked = []
    similar = NNGuide._similar
    monkeypatch.setattr(NNGuide, "_similar", lambda *a: asked.append(a) or similar(*a))
    NNGuide.score_variants(variants, NEW)
    assert len(asked) == 1


@pytest.mark.parametrize(("share", "dim"), [(0.5, 6), (0.3, 3), (0.05, 0)])
def test_a_principal_dimension_below_1_is_a_share(share, dim):
    by_share, by_dim = (Residual(each).fit(TRAIN, HEAD).score_samples(NEW) for each in (share, dim))
    assert np.array_equal(by_share, by_dim)


def test_more_dimensions_than_one_are_whole():
    with pytest.raises(ValueError, match=r"principal_dim must be in 0..11, got 2.5; below 1"):
        Residual(2.5).fit(TRAIN, HEAD)


@pytest.mark.parametrize("name", [n for n, each in DETECTORS.items() if each.fitted_on == "val"])
def test_what_does_not_learn_from_val_is_the_same_fitted_on_fewer_images(name):
    fewer = VAL.rows(np.arange(len(VAL.logits)) % 2 == 0)
    whole, part = (fit_detector(name, TRAIN, val, HEAD) for val in (VAL, fewer))
    same = np.array_equal(whole.score_outputs(NEW), part.score_outputs(NEW))
    assert same != whole.learns_from_val
