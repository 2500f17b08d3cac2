import numpy as np
import pandas as pd
import pytest

from snojoe.detectors import PAPER_DETECTORS
from snojoe.paper import CLASSES, TABLE_2, TABLE_3, Figures, paper_set
from snojoe.tables import (
    ablation_tree,
    markdown,
    mean_and_std,
    scores_tree,
    summary_tree,
    table2_markdown,
    table3_markdown,
)


def table2(sets=("a", "b"), seeds=(0, 1)):
    names = [detector.name for detector in PAPER_DETECTORS]
    rows = [
        {
            **{"ood_set": s, "score": score, "model": model, "sn_layers": 9 * (model == "sn")},
            **{"seed": seed, "fpr95": 10.0 * i + seed, "auroc": 50.0 + i, "aupr": 60.0 + i},
        }
        for s in sets
        for i, score in enumerate(names)
        for model in ("control", "sn")
        for seed in seeds
    ]
    frame = pd.DataFrame(rows)
    frame.loc[frame.model == "sn", "fpr95"] -= 5
    return frame


def classifier():
    frame = pd.DataFrame(
        {"map": [90.0, 91.0], "map_interpolated": 92.0, "accepted": [94.0, 95.0], "classes": 7}
    )
    return {"control": frame, "sn": frame + 1}


def table3(weights=(0, 94, 104, 104)):
    rows = [
        {"ood_set": "a", "sn_layers": depth, "normalized_weights": count, "seed": seed}
        | {"fpr95": 1.0 * count + seed, "auroc": 1.0, "aupr": 2.0}
        for depth, count in zip((0, 7, 8, 9), weights, strict=True)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_snojoe_is_joint_energy_on_the_sn_model():
    tree = scores_tree(table2(), classifier())
    assert tree["a"]["joint_energy"]["fpr95"] == 60.5
    assert tree["a"]["snojoe"]["fpr95"] == 55.5
    assert tree["id"]["map"] == 91.5
    assert tree["id"]["map_control"] == 90.5


@pytest.mark.parametrize("sets", [("a",), ("a", "b"), ("a", "b", "c", "d")])
def test_the_summary_has_at_most_a_dozen_numbers(sets):
    summary = summary_tree(scores_tree(table2(sets), classifier()), 9, 104)
    flat = pd.json_normalize(summary)
    assert len(flat.columns) <= 12
    assert flat.iloc[0]["sn_layers"] == 9
    assert flat.iloc[0]["normalized_weights"] == 104
    assert flat.filter(like="fpr95").iloc[0].tolist()[:2] == [55.5, 60.5]


def test_table_2_lists_the_papers_eight_rows_with_its_figures_beside():
    text = table2_markdown(table2(("texture",)), {"texture": TABLE_2["texture"]})
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in rows] == [
        *(detector.title for detector in PAPER_DETECTORS),
        "SNoJoE",
    ]
    assert "55.50 ± 0.71" in rows[-1]
    assert rows[-1].rstrip(" |").endswith("99.00")
    assert "paper" not in table2_markdown(table2(), {})


def test_table_3_says_which_depths_are_one_model():
    text = table3_markdown(table3(), {})
    assert "9 (104 weights, the same as 8)" in text
    assert "8 (104 weights)" in text
    assert ablation_tree(table3())["a"]["7"]["fpr95"] == 94.5


def test_one_seed_has_no_spread():
    assert mean_and_std(1.0, float("nan")) == "1.00"
    assert "one seed" in table2_markdown(table2(seeds=(0,)), {})


def test_markdown_columns_line_up():
    lines = markdown(["a", "bb"], [["ccc", "1"], ["d", "22"]]).splitlines()
    assert lines == ["| a   | bb |", "| --- | -: |", "| ccc |  1 |", "| d   | 22 |"]


def report(test=10_991, ood=5_640):
    return {"id": {"test": {"images": test}}, "ood": {"mine": {"images": ood}}}


@pytest.mark.parametrize(
    ("test", "ood", "classes", "expected"),
    [
        (10_991, 5_640, CLASSES, "texture"),
        (10_991, 18_835, CLASSES, "imagenet22k"),
        (10_990, 5_640, CLASSES, None),
        (10_991, 5_639, CLASSES, None),
        (10_991, 5_640, ("dog",), None),
    ],
)
def test_the_papers_figures_stand_beside_the_papers_data_alone(test, ood, classes, expected):
    assert paper_set("mine", report(test, ood), list(classes)) == expected


def test_the_papers_headline_follows_from_its_tables():
    """11% and 54% relative reductions of FPR95, and 19% against the paper's own depth 0."""

    def reduction(before: Figures, after: Figures) -> int:
        return round(100 * (before.fpr95 - after.fpr95) / before.fpr95)

    reductions = [
        reduction(TABLE_2[s]["joint_energy"], TABLE_2[s]["snojoe"])
        for s in ("imagenet22k", "texture")
    ]
    assert reductions == [11, 54]
    assert reduction(TABLE_3["texture"][0], TABLE_3["texture"][9]) == 19
    assert all(
        np.isfinite(f).all() for t in (TABLE_2, TABLE_3) for d in t.values() for f in d.values()
    )
