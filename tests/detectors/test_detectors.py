"""What every detector promises, whatever its score."""

import pickle
import sys
import tracemalloc
import weakref

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from snojoe import detectors
from snojoe.detectors import (
    DETECTORS,
    LOF,
    PAPER_DETECTORS,
    ArrayDetector,
    LinearHead,
    ModelOutputs,
    OutputsDetector,
    base,
    fit_detector,
    registry,
)
from snojoe.detectors.knn import KNN
from snojoe.detectors.relative_mahalanobis import RelativeMahalanobis
from snojoe.measures.conformal import accepted_interval, conformal_rank, p_values
from snojoe.measures.metrics import threshold_at_tpr
from snojoe.measures.thresholds import calibrated_threshold

ARRAY_DETECTORS = [d for d in DETECTORS.values() if issubclass(d, ArrayDetector)]
OUTPUTS_DETECTORS = [d for d in DETECTORS.values() if issubclass(d, OutputsDetector)]
FIELDS = ("logits", "features", "hidden")
NEIGHBOURS = ("knn", "knn_features", "nn_guide")


def expected_failures(detector):
    if isinstance(detector, RelativeMahalanobis):
        reason = "fitted without labels: both Gaussians are the same one, so every score is 0"
        return {"check_outliers_train": reason, "check_outliers_fit_predict": reason}
    return {}


@pytest.mark.filterwarnings("ignore:n_neighbors .20. is greater:UserWarning")
@parametrize_with_checks(
    # As the only neighbour of itself every image that was fitted on has the same score.
    [d(k=50) if issubclass(d, KNN) else d() for d in ARRAY_DETECTORS],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_conformance(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def head():
    rng = np.random.default_rng(1)
    return LinearHead(rng.normal(size=(3, 8)), rng.normal(size=3))


def make_outputs(head, seed, n=60, scale=1.0):
    rng = np.random.default_rng(seed)
    hidden = np.maximum(rng.normal(size=(n, 8)), 0) * scale
    logits = head.logits(hidden)
    features = rng.normal(size=(n, 5)) * scale
    return ModelOutputs(logits, features, hidden, labels=(logits > 0).astype(int))


@pytest.fixture
def train(head):
    return make_outputs(head, seed=2)


@pytest.fixture
def val(head):
    return make_outputs(head, seed=3)


@pytest.mark.parametrize("name", DETECTORS)
def test_an_image_has_the_same_score_in_a_block_of_any_size(name, train, val, head, monkeypatch):
    detector = fit_detector(name, train, val, head)
    whole = detector.score_outputs(val)
    monkeypatch.setattr(base, "_BLOCK", 56)  # seven images of eight hidden features
    assert detector.score_outputs(val) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("name", ["feature_norm", "feature_norm_hidden"])
def test_scoring_copies_no_array_as_a_whole(name, head):
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(20_000, 256)).astype(np.float32)
    outputs = ModelOutputs(np.zeros((20_000, 3), np.float32), wide, wide)
    detector = DETECTORS[name]().fit_outputs(outputs, head)
    tracemalloc.start()
    detector.score_outputs(outputs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < wide.nbytes


def test_table_order_starts_with_the_paper():
    names = ["max_logit", "msp", "odin", "mahalanobis", "lof", "isolation_forest", "joint_energy"]
    assert [detector.name for detector in PAPER_DETECTORS] == names
    assert list(DETECTORS)[:7] == names


def test_every_class_of_the_package_is_registered_once():
    assert len(DETECTORS) == 40
    assert all(name == detector.name for name, detector in DETECTORS.items())
    assert len({detector.title for detector in DETECTORS.values()}) == len(DETECTORS)


@pytest.fixture
def new_file(tmp_path, monkeypatch):
    """Writes one more module into the package, as a user does."""

    def write(consumes="('logits',)", **names):
        source = "from snojoe.detectors.base import ArrayDetector\n"
        for class_name, name in names.items():
            source += f"class {class_name}(ArrayDetector):\n    name, title = '{name}', 'Min'\n"
            source += f"    consumes = {consumes}\n"
            source += "    def _score(self, X):\n        return X.min(axis=1)\n"
        (tmp_path / "min_logit.py").write_text(source)

    monkeypatch.setattr(detectors, "__path__", [*detectors.__path__, str(tmp_path)])
    yield write
    sys.modules.pop("snojoe.detectors.min_logit")


def test_a_score_is_one_file(new_file):
    new_file(MinLogit="min_logit")
    found = registry._registry()
    assert found.keys() - DETECTORS.keys() == {"min_logit"}
    assert found["min_logit"]().fit([[1.0, 2.0]]).score_samples([[3.0, 4.0]]) == [3.0]


def test_two_scores_of_one_name_are_refused(new_file):
    new_file(MinLogit="max_logit")
    with pytest.raises(TypeError, match="MaxLogit and MinLogit have one name"):
        registry._registry()


def test_a_string_is_no_tuple_of_fields(new_file):
    new_file(consumes="'features'", MinFeature="min_feature")
    with pytest.raises(TypeError, match=r"MinFeature.consumes: expected a tuple.*got 'features'"):
        registry._registry()


@pytest.mark.parametrize("detector", DETECTORS.values())
def test_a_class_says_what_it_reads(detector):
    assert detector.fitted_on in ("train", "val")
    assert detector.matched_on in (None, "val")
    assert set(detector.consumes) <= set(FIELDS)


@pytest.mark.parametrize("name", DETECTORS)
def test_fit_detector_serves_every_kind(name, train, val, head):
    detector = fit_detector(name, train, val, head)
    scores = detector.score_outputs(make_outputs(head, seed=4, n=7))
    assert scores.shape == (7,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_fit_detector_takes_the_split_that_the_class_names(name, train, val, head):
    split = {"train": train, "val": val}[DETECTORS[name].fitted_on]
    expected = DETECTORS[name]().fit_outputs(split, head, val)
    assert fit_detector(name, train, val, head).offset_ == expected.offset_
    fitted_on_it_alone = DETECTORS[name]().fit_outputs(split, head)
    assert (fitted_on_it_alone.offset_ == expected.offset_) == (expected.matched_on is None)


def test_fit_detector_passes_parameters(train, val, head):
    assert fit_detector("odin", train, val, head, temperature=10.0).temperature == 10.0


def test_fit_detector_with_an_unknown_name(train, val, head):
    with pytest.raises(ValueError, match=r"name must be one of max_logit, .*got 'energy'"):
        fit_detector("energy", train, val, head)


@pytest.mark.parametrize("name", [n for n in DETECTORS if n not in ("lof", *NEIGHBOURS)])
def test_offset_accepts_the_share_of_the_training_images(name, train, val, head):
    detector = fit_detector(name, train, val, head, accept=0.8)
    scores = detector.score_outputs({"train": train, "val": val}[detector.fitted_on])
    assert detector.offset_ == pytest.approx(threshold_at_tpr(scores, 0.8), rel=1e-8)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_no_image_is_its_own_neighbour_in_offset(name, head):
    train = make_outputs(head, seed=2, n=30)
    detector = fit_detector(name, train, train, head, k=3)
    left_out = [np.arange(30) == i for i in range(30)]
    scores = [
        fit_detector(name, *[take(train, ~one)] * 2, head, k=3).score_outputs(take(train, one))[0]
        for one in left_out
    ]
    assert detector.offset_ == pytest.approx(threshold_at_tpr(scores), rel=1e-8)


def test_offset_of_lof_is_that_of_its_training_factors(val):
    detector = LOF().fit(val.logits)
    factors = LocalOutlierFactor().fit(val.logits).negative_outlier_factor_
    assert detector.offset_ == pytest.approx(threshold_at_tpr(factors), rel=1e-8)


def take(outputs, rows):
    return ModelOutputs(*(getattr(outputs, f)[rows] for f in (*FIELDS, "labels")))


@pytest.mark.parametrize("name", DETECTORS)
def test_decision_and_prediction_follow_the_offset(name, train, val, head):
    detector = fit_detector(name, train, val, head)
    X = val if isinstance(detector, OutputsDetector) else getattr(val, *detector.consumes)
    scores = detector.score_samples(X)
    assert np.array_equal(detector.decision_function(X), scores - detector.offset_)
    assert np.array_equal(detector.predict(X), np.where(scores >= detector.offset_, 1, -1))


@pytest.mark.parametrize("name", DETECTORS)
def test_float32_is_scored_in_float64(name, train, val, head):
    detector = fit_detector(name, train, val, head)
    single = ModelOutputs(*(getattr(val, field).astype(np.float32) for field in FIELDS))
    double = ModelOutputs(*(getattr(single, field).astype(np.float64) for field in FIELDS))
    assert detector.score_outputs(single).dtype == np.float64
    assert np.array_equal(detector.score_outputs(single), detector.score_outputs(double))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", DETECTORS)
def test_no_overflow_at_logits_of_1e4(name, sign, head):
    outputs = make_outputs(head, seed=5, scale=sign * 1e4)
    assert np.abs(outputs.logits).max() > 1e4
    assert np.isfinite(fit_detector(name, outputs, outputs, head).score_outputs(outputs)).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_pickle_keeps_the_scores(name, train, val, head):
    detector = fit_detector(name, train, val, head)
    copy = pickle.loads(pickle.dumps(detector))
    assert np.array_equal(copy.score_outputs(val), detector.score_outputs(val))


@pytest.mark.parametrize("pickled_first", [True, False])
@pytest.mark.parametrize("name", DETECTORS)
def test_the_offset_comes_when_asked_for_and_lets_the_images_go(
    name, pickled_first, train, val, head, monkeypatch
):
    computed = []
    scores_of = DETECTORS[name]._training_scores
    monkeypatch.setattr(
        DETECTORS[name], "_training_scores", lambda *a: computed.append(a) or scores_of(*a)
    )
    detector = fit_detector(name, train, val, head)
    detector.score_outputs(val)
    assert computed == []
    if pickled_first:
        detector = pickle.loads(pickle.dumps(detector))
    assert detector.offset_ == detector.offset_
    assert len(computed) == 1
    assert detector._offset.seen is None


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_is_gone_with_its_last_reference(name, train, val, head):
    detector = fit_detector(name, train, val, head)
    gone = weakref.ref(detector)
    del detector
    assert gone() is None


@pytest.mark.parametrize("name", DETECTORS)
def test_clone_keeps_parameters_and_forgets_the_fit(name, train, val, head):
    copy = clone(fit_detector(name, train, val, head, accept=0.9))
    assert copy.accept == 0.9
    assert not hasattr(copy, "offset_")


@pytest.mark.parametrize("detector", ARRAY_DETECTORS)
def test_works_in_a_pipeline(detector, val):
    X = getattr(val, *detector.consumes)
    pipeline = make_pipeline(StandardScaler(), detector()).fit(X)
    scaled = StandardScaler().fit_transform(X)
    assert pipeline.score_samples(X) == pytest.approx(detector().fit(scaled).score_samples(scaled))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", DETECTORS)
def test_nan_and_infinity_are_refused_by_name(name, bad, train, val, head):
    detector = fit_detector(name, train, val, head)
    field = detector.consumes[-1]
    array = getattr(val, field).copy()
    array[4, 1] = bad
    arrays = {f: getattr(val, f) for f in FIELDS} | {field: array}
    input_name = field if isinstance(detector, OutputsDetector) else "X"
    with pytest.raises(ValueError, match=rf"Input {input_name} contains (NaN|infinity)"):
        detector.score_outputs(ModelOutputs(**arrays))


@pytest.mark.parametrize("accept", [0, 1.5, float("nan")])
def test_accept_outside_its_range(accept, train, val, head):
    with pytest.raises(ValueError, match=r"accept must be in \(0, 1\]"):
        fit_detector("joint_energy", train, val, head, accept=accept)


@pytest.mark.parametrize("detector", OUTPUTS_DETECTORS)
def test_head_of_another_network_is_refused(detector, train):
    other = LinearHead(np.zeros((3, 9)), np.zeros(3))
    with pytest.raises(ValueError, match=r"head.weight has shape \(3, 9\), but .* 8 hidden"):
        detector().fit(train, other)


@pytest.mark.parametrize("detector", OUTPUTS_DETECTORS)
def test_outputs_of_another_network_are_refused(detector, train, head):
    fitted = detector().fit(train, head)
    field = detector.consumes[0]
    columns = getattr(train, field).shape[1]
    arrays = {f: getattr(train, f) for f in FIELDS} | {field: np.ones((60, columns + 1))}
    with pytest.raises(ValueError, match=f"{field} has {columns + 1} columns"):
        fitted.score_samples(ModelOutputs(**arrays))


@pytest.mark.parametrize("name", DETECTORS)
def test_calibration_sets_the_threshold_by_new_images(name, train, val, head):
    detector = fit_detector(name, train, val, head, accept=0.9)
    before = detector.offset_
    new, newer = make_outputs(head, seed=7, n=100), make_outputs(head, seed=8)
    scores = detector.score_outputs(new)
    assert detector.calibrate_outputs(new) is detector
    assert np.array_equal(detector.calibration_, scores)
    assert detector.offset_ == calibrated_threshold(scores, 0.9)
    assert detector.calibrate_outputs(new, confidence=0.95).offset_ == calibrated_threshold(
        scores, 0.9, 0.95
    )
    X = newer if isinstance(detector, OutputsDetector) else getattr(newer, *detector.consumes)
    expected = p_values(scores, detector.score_samples(X))
    assert np.array_equal(detector.p_values(X), expected)
    fit_again = {"train": train, "val": val}[detector.fitted_on]
    assert detector.fit_outputs(fit_again, head, val).offset_ == before
    with pytest.raises(NotFittedError, match="has no p-values before calibrate"):
        detector.p_values(X)


def test_calibration_needs_a_fit_and_needs_none_of_the_images_seen(train, head, monkeypatch):
    with pytest.raises(NotFittedError):
        RelativeMahalanobis().calibrate(train.features)
    detector = fit_detector("knn", train, train, head)
    monkeypatch.setattr(type(detector), "_training_scores", None)
    assert detector.calibrate(train.hidden).offset_ <= detector.calibration_.max()


def test_the_calibrated_threshold_accepts_what_it_promises():
    """Of a score that is fitted too closely; the threshold of the images seen in fit does not."""
    rng = np.random.default_rng(0)
    train, val, test = (rng.normal(size=(n, 40)) for n in (60, 199, 5000))
    detector = DETECTORS["mahalanobis"]().fit(train)
    assert (detector.predict(test) == 1).mean() < 0.4
    accepted = (detector.calibrate(val).predict(test) == 1).mean()
    low, high = accepted_interval(199, conformal_rank(199), confidence=0.999)
    assert low < accepted < high
