"""What the detector does: as `snojoe detect` says it, and which scores do better."""

import numpy as np
import pytest
from report_files import CALIBRATION, CAUGHT, IMAGES, make_experiment
from scipy.stats import binomtest

from snojoe.measures.conformal import accepted_interval
from snojoe.results.at_work import Share, at_work, promised_of
from snojoe.support.errors import SnojoeError


@pytest.fixture(params=[9, 0])
def work(tmp_path, request):
    return at_work(make_experiment(tmp_path, request.param).experiment, request.param)


def test_a_share_has_clopper_and_pearsons_interval():
    expected = binomtest(29, 952).proportion_ci(0.95, method="exact")
    assert Share(29, 952).interval == pytest.approx((100 * expected.low, 100 * expected.high))
    assert Share(29, 952).text == f"3.0% [{100 * expected.low:.1f}, {100 * expected.high:.1f}]"
    assert Share(0, 10).ends.startswith("[0.0, ")


def test_it_is_measured_at_the_threshold_that_is_calibrated(work):
    assert work.calibration == len(CALIBRATION)
    assert work.current.false_alarms == Share(1, IMAGES["id"])
    assert work.current.caught == {name: Share(4, IMAGES[name]) for name in ("a", "texture")}
    assert "8.3% [0.2, 38.5] of 12 in-distribution test images, where 5% are" in work.sentence
    assert "and catches 40.0% [12.2, 73.8] of a and 44.4% [" in work.sentence


def test_what_pseudo_ood_images_choose_comes_before_what_the_test_sets_would(work):
    assert work.current.pseudo_fpr95 == 50
    assert [each.score for each in work.better_by_pseudo] == ["msp", "odin"]
    assert [each.score for each in work.better_in_hindsight] == ["max_logit"]
    assert work.better_in_hindsight[0].caught["a"].count == CAUGHT["max_logit"]


def test_the_mean_of_several_models_decides(tmp_path):
    made = make_experiment(tmp_path)
    other = made.folders.detectors_of(9, 1)
    for path in other.iterdir():
        path.unlink()
    other.rmdir()
    with pytest.raises(SnojoeError, match="sn9/seed1"):
        at_work(made.experiment, 9)


def test_the_promise_narrows_with_val_and_is_none_of_too_few():
    assert promised_of(18) is None
    low, high = promised_of(39)
    accepted = accepted_interval(39, 2)
    assert (low, high) == pytest.approx((100 * (1 - accepted[1]), 100 * (1 - accepted[0])))
    widths = [np.diff(promised_of(n))[0] for n in (100, 400, 1600)]
    assert widths == sorted(widths, reverse=True)
