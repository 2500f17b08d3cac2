import numpy as np
import pytest
from test_grids import write_experiment

from snojoe.measures.ood_metrics import AUROC
from snojoe.results.grids import Grid, score_grid
from snojoe.results.leaderboard import groups_of, leaderboard, leaderboard_markdown

NEAR_FAR = {"near": "near", "far": "far"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def grid(experiment):
    whole = score_grid(experiment, 9)
    kept = [row for row in whole.id if row.score in ("joint_energy", "max_logit", "knn", "odin")]
    return Grid(
        whole.seeds,
        {row: whole.id[row] for row in kept},
        {name: {row: rows[row] for row in kept} for name, rows in whole.ood.items()},
    )


def clusters(grid):
    from snojoe.measures.clusters import Clusters

    return {name: Clusters.independent(n) for name, n in grid.images().items()}


def test_the_lowest_mean_rank_comes_first(grid):
    places = leaderboard(grid, clusters(grid))
    assert len(places) == 8
    assert [place.rank for place in places] == sorted(place.rank for place in places)
    table = grid.metrics().groupby(["ood_set", "score", "model"])[AUROC.name].mean()
    for place in places:
        ranks = []
        for ood_set in ("near", "far"):
            assert place.auroc[ood_set] == pytest.approx(table[ood_set, place.score, place.model])
            above = sum(value > place.auroc[ood_set] + 1e-9 for value in table[ood_set])
            equal = sum(abs(value - place.auroc[ood_set]) < 1e-9 for value in table[ood_set])
            ranks.append(above + (equal + 1) / 2)
        assert place.rank == pytest.approx(np.mean(ranks))
        assert place.low <= place.high


def test_odin_as_it_is_untuned_shares_its_place_with_max_logit(grid):
    places = {(p.score, p.model): p for p in leaderboard(grid, clusters(grid))}
    for model in ("control", "sn"):
        assert places["odin", model].rank == places["max_logit", model].rank


def test_sets_that_are_marked_have_means(grid):
    text = leaderboard_markdown(leaderboard(grid, clusters(grid)), NEAR_FAR, 2)
    header = text.splitlines()[0]
    assert "for new trainings and new images" in text
    assert "near (near): AUROC ↑, FPR95 ↓" in header
    assert "mean" not in header.replace("mean rank", "")
    assert groups_of({"a": "near", "b": "near", "c": "far"}) == {"near": ["a", "b"]}
    assert groups_of({"a": None, "b": None}) == {"all": ["a", "b"]}
    assert groups_of({"a": None}) == {}
    same = leaderboard_markdown(leaderboard(grid, clusters(grid)), {"near": None, "far": None}, 1)
    assert "for this training and new images" in same
    places = leaderboard(grid, clusters(grid))
    mean = np.mean([*places[0].auroc.values()])
    assert f" {mean:.2f}, " in same.splitlines()[2]
