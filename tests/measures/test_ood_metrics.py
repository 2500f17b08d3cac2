import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from snojoe.measures.ood_metrics import ALL_METRICS, aupr_out


def test_headings_point_to_the_better():
    assert [metric.heading for metric in ALL_METRICS] == [
        "FPR95 ↓",
        "AUROC ↑",
        "AUPR ↑",
        "AUPR-out ↑",
    ]


def test_the_better_detector_has_the_better_value():
    for metric in ALL_METRICS:
        good, bad = (metric.of([1, 2, 3, 4], ood) for ood in ([-1, 0], [2, 3]))
        assert (good > bad) == (metric.better == "higher")


def test_aupr_out_is_the_average_precision_of_ood_images():
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.integers(3, 9, 40), rng.integers(0, 6, 90)
    labels, scores = np.repeat([0, 1], [40, 90]), -np.append(id_scores, ood_scores)
    expected = average_precision_score(labels, scores)
    assert aupr_out(id_scores, ood_scores) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="ood_scores"):
        aupr_out(id_scores, [np.nan])
