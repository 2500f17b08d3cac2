import numpy as np
import pytest

from snojoe.measures.metrics import auroc, fpr_at_tpr
from snojoe.results.grids import Grid, ScoreRow
from snojoe.results.ood_classes import COLUMNS, class_of, ood_classes

ROW = ScoreRow("joint_energy", "sn", 9)
IDS = ["x/cats/1.jpg", "x/cats/2.jpg", "dogs/1.jpg", "dogs/2.jpg", "dogs/3.jpg", "4.jpg"]


@pytest.fixture
def grid():
    rng = np.random.default_rng(0)
    # Few values, so that some are ties.
    return Grid(
        (1, 2),
        {ROW: rng.integers(2, 9, (2, 40)).astype(float)},
        {
            "named": {ROW: rng.integers(0, 6, (2, 6)).astype(float)},
            "flat": {ROW: rng.normal(size=(2, 3))},
        },
    )


def test_of_each_class_alone(grid):
    found = ood_classes(grid, {"named": IDS, "flat": ["1.jpg", "2.jpg", "3.jpg"]})
    assert tuple(found.columns) == COLUMNS
    assert found.ood_set.unique().tolist() == ["named"]
    assert found.set_index("ood_class").images.to_dict() == {"": 1, "cats": 2, "dogs": 3}
    for name, rows in (("cats", [0, 1]), ("dogs", [2, 3, 4]), ("", [5])):
        pairs = list(zip(grid.id[ROW], grid.ood["named"][ROW][:, rows], strict=True))
        (row,) = found[found.ood_class == name].itertuples()
        assert row.auroc == pytest.approx(100 * np.mean([auroc(*pair) for pair in pairs]))
        assert row.fpr95 == pytest.approx(100 * np.mean([fpr_at_tpr(*pair) for pair in pairs]))
        assert (row.score, row.model) == ("joint_energy", "sn")


def test_the_set_is_the_mean_of_its_classes(grid):
    found = ood_classes(grid, {"named": IDS, "flat": list("abc")})
    table = grid.metrics().query("ood_set == 'named'")
    for metric in ("fpr95", "auroc"):
        mean = np.average(found[metric], weights=found.images)
        assert mean == pytest.approx(table[metric].mean())


def test_without_folders_there_is_nothing_to_say(grid):
    found = ood_classes(grid, {"named": list("abcdef"), "flat": list("abc")})
    assert found.empty
    assert tuple(found.columns) == COLUMNS
    assert class_of("a.jpg") == ""
