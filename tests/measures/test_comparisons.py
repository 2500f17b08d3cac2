import numpy as np
import pytest

from snojoe.measures.clusters import Clusters
from snojoe.measures.comparisons import bold_rows, holm
from snojoe.measures.estimates import estimates
from snojoe.measures.ood_metrics import AUROC, FPR95

N = 400


def column(metric, gaps, seeds=1, noise=0.3, **clusters):
    """Rows of the same images whose ID scores lie higher by `gaps`."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, N))

    def of_set(latent, shift):
        return latent + shift + noise * rng.normal(size=(seeds, N))

    id_scores = {row: of_set(images[0], gap) for row, gap in gaps.items()}
    ood_scores = {row: of_set(images[1], 0) for row in gaps}
    found = estimates(id_scores, ood_scores, **clusters)
    return {row: found[row][metric.name] for row in gaps}


def test_holm_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_without_a_test_counts_the_others_only():
    assert holm([0.02, np.nan, 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_holm_never_exceeds_one():
    assert holm([0.6, 0.9]).tolist() == [1, 1]


@pytest.mark.parametrize("metric", [AUROC, FPR95])
@pytest.mark.parametrize("seeds", [1, 3])
def test_bold_is_the_best_and_what_is_not_shown_to_be_worse(metric, seeds):
    gaps = {"worst": 0.5, "best": 2.0, "twin": 2.0}
    assert bold_rows(column(metric, gaps, seeds), metric) == {"best", "twin"}


def test_bold_uses_the_paired_difference_not_the_intervals():
    rows = column(AUROC, {"a": 1.5, "b": 1.7}, noise=0.05)
    assert rows["a"].interval()[1] > rows["b"].interval()[0]
    assert bold_rows(rows, AUROC) == {"b"}


def test_bold_corrects_for_the_number_of_rows():
    pair = {"best": 1.62, "doubtful": 1.5}
    others = {f"other{i}": 1.0 for i in range(19)}
    assert bold_rows(column(AUROC, pair), AUROC) == {"best"}
    assert "doubtful" in bold_rows(column(AUROC, pair | others), AUROC)


def test_a_copy_of_the_best_row_is_bold():
    rows = column(AUROC, {"best": 2.0, "worst": 0.5})
    assert bold_rows(rows | {"copy": rows["best"]}, AUROC) == {"best", "copy"}


def test_copies_do_not_count_as_comparisons():
    rows = column(AUROC, {"a": 1.5, "b": 1.5})
    copies = {f"copy{i}": rows["a"] for i in range(30)}
    assert bold_rows(rows | copies, AUROC) == {*rows, *copies}


def test_a_single_row_is_bold():
    assert bold_rows(column(AUROC, {"only": 1.0}), AUROC) == {"only"}


def test_rows_of_unknown_variance_are_bold():
    together = Clusters.of([("all",)] * N)
    rows = column(AUROC, {"best": 2.0, "worst": 0.5}, id_clusters=together)
    assert bold_rows(rows, AUROC) == {"best", "worst"}


def test_the_same_rows_are_bold_every_time():
    rows = column(AUROC, {f"{i}": 1.5 + i / 40 for i in range(8)})
    assert len({frozenset(bold_rows(rows, AUROC)) for _ in range(3)}) == 1
