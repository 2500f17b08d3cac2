import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from snojoe.measures.thresholds import acceptance_threshold, label_thresholds


def f1(truth, chosen):
    return 2 * np.sum(truth & chosen) / max(np.sum(truth) + np.sum(chosen), 1)


@pytest.mark.parametrize("accept", [0.5, 0.95, 0.99, 1.0])
def test_the_asked_share_is_accepted_and_no_image_more(accept):
    scores = np.random.default_rng(0).normal(size=1000)
    assert np.sum(scores >= acceptance_threshold(scores, accept)) == 1000 * accept


@pytest.mark.parametrize("accept", [0.0, -1.0, 1.01, 95.0])
def test_an_impossible_share_is_refused(accept):
    with pytest.raises(ValueError, match=r"accept must be in \(0, 1\]"):
        acceptance_threshold([1.0, 2.0], accept)


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.uint8, (12, 2), elements=st.integers(0, 1)),
    arrays(np.float64, (12, 2), elements=st.sampled_from([0.1, 0.2, 0.4, 0.5, 0.9, 1.0])),
)
def test_no_threshold_has_a_better_f1(labels, probabilities):
    for threshold, truth, p in zip(
        label_thresholds(labels, probabilities), labels.T, probabilities.T, strict=True
    ):
        if not truth.any():
            assert np.isnan(threshold)
            continue
        best = max(f1(truth, p >= cut) for cut in np.unique(p))
        assert f1(truth, p >= threshold) == pytest.approx(best)
        assert not np.isclose(p, threshold, atol=0.01).any()  # halfway: no image is on it
