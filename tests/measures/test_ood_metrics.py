from snojoe.measures.ood_metrics import OOD_METRICS


def test_headings_point_to_the_better():
    assert [metric.heading for metric in OOD_METRICS] == ["FPR95 ↓", "AUROC ↑", "AUPR ↑"]


def test_the_better_detector_has_the_better_value():
    for metric in OOD_METRICS:
        good, bad = (metric.of([1, 2, 3, 4], ood) for ood in ([-1, 0], [2, 3]))
        assert (good > bad) == (metric.better == "higher")
