import json

import numpy as np
import pandas as pd
import pytest
from example_tables import IMAGES, classifier, resamples, resamples2, table2, table3

from snojoe.detectors import PAPER_DETECTORS
from snojoe.measures.statistics import Bootstrap
from snojoe.results.grids import ScoreRow
from snojoe.results.paper import CLASSES, TABLE_2, TABLE_3, Figures, paper_set
from snojoe.results.tables import (
    ablation_series,
    ablation_tree,
    compare,
    full_table2_markdown,
    id_test_note,
    markdown,
    mean_and_std,
    named_scores,
    p_value,
    paper_rows,
    scores_tree,
    statistics_tree,
    summary_tree,
    table2_markdown,
    table3_markdown,
    tuning_markdown,
)


def markdown2(table, paper=None):
    return table2_markdown(table, resamples2(table), IMAGES, paper or {})


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
    text = markdown2(table2(("texture",)), {"texture": TABLE_2["texture"]})
    rows = [line for line in text.splitlines() if line.startswith("|")][2:10]
    assert [row.split("|")[1].strip() for row in rows] == [
        *(detector.title for detector in PAPER_DETECTORS),
        "SNoJoE",
    ]
    assert "55.50 ± 0.71 [54.55, 56.45]" in rows[-1]
    assert rows[-1].rstrip(" |").endswith("99.00")
    assert "Relative cut of FPR95: 8.3% [" in text
    assert "the paper's: 54%" in text
    assert "paper" not in markdown2(table2())


def test_the_best_and_what_is_not_separated_from_it_is_bold():
    table = table2(("a",))
    cells = resamples2(table)["a"]
    noise = np.random.default_rng(0).normal(0, 0.2, 2001)
    close = {m: Bootstrap(b.estimate, b.replicates + noise) for m, b in cells["msp"].items()}
    text = table2_markdown(table, {"a": cells | {"msp": close}}, IMAGES, {})
    fpr95 = [line.split("|")[2] for line in text.splitlines() if line.startswith("|")][2:10]
    assert ["**" in cell for cell in fpr95] == [True, True] + [False] * 6


def test_the_difference_stands_below_with_its_tests_and_their_n():
    text = markdown2(table2(("a",)))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "-5.00 [-5.00, -5.00]" in lines["difference"]
    assert "p < 0.001" in lines["bootstrap, n = 600 + 500 images"]
    assert lines["paired t-test, n = 2 seeds"].count("–") == 3
    assert "n = 2: no variance to test against" in text


def t_test_cell(seeds):
    table = table2(("a",), seeds)
    table.loc[table.model == "sn", "fpr95"] += 0.01 * table.seed
    text = markdown2(table)
    line = next(line for line in text.splitlines() if line.startswith("| paired t-test"))
    return line.split("|")[2].strip(), text


def test_below_five_seeds_a_p_value_has_a_note_and_is_not_bold():
    cell, text = t_test_cell((0, 1, 2))
    assert cell == "p < 0.001"
    assert "n = 3 < 5: weak evidence" in text


def test_from_five_seeds_on_a_small_p_value_is_bold():
    cell, text = t_test_cell((0, 1, 2, 3, 4))
    assert cell == "**p < 0.001**"
    assert "weak evidence" not in text


def test_the_comparison_is_of_the_sn_model_with_the_control():
    table = table2(("a",), (0, 1, 2))
    fpr95 = compare(table, resamples2(table))["a"]["fpr95"]
    assert fpr95.over_images.estimate == pytest.approx(-0.05)
    assert fpr95.over_seeds.n == 3
    assert fpr95.over_seeds.mean_difference == pytest.approx(-5)


def test_statistics_are_json_in_percent_with_every_n():
    table = table2()
    bootstraps = resamples2(table)
    tree = statistics_tree(bootstraps, compare(table, bootstraps), IMAGES, {})
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert (tree["resamples"], tree["images"]) == (2001, IMAGES)
    of_set = tree["ood_sets"]["b"]
    assert of_set["interval"]["snojoe"]["fpr95"] == [54.55, 56.45]
    assert of_set["bold"]["fpr95"] == ["max_logit"]
    difference = of_set["snojoe_minus_joint_energy"]["fpr95"]
    assert (difference["difference"], difference["seeds"]) == (-5, 2)
    assert difference["p_over_images"] == 0.000999
    assert difference["p_over_seeds"] is None
    assert of_set["relative_reduction_of_fpr95"]["reduction"] == 8.26


def test_the_full_table_has_every_score_on_both_models():
    rows = [line for line in full_table2_markdown(table2()).splitlines() if line[:2] == "| "]
    assert len(rows) == 2 * (2 + 2 * len(PAPER_DETECTORS))
    assert any(row.startswith("| MaxLogit, control ") for row in rows)
    assert any(row.startswith("| MaxLogit, with SN ") for row in rows)


def test_the_rows_of_the_paper_are_scores_on_the_control_and_snojoe():
    rows = paper_rows(8)
    assert rows["max_logit"] == ScoreRow("max_logit", "control", 0)
    assert rows["snojoe"] == ScoreRow("joint_energy", "sn", 8)
    assert len(rows) == 8


def test_a_baseline_without_errors_cannot_be_cut():
    table = table2(("a",))
    table.loc[table.score == "joint_energy", "fpr95"] = 0
    bootstraps = resamples(named_scores(table), "score", width=0)
    text = table2_markdown(table, bootstraps, IMAGES, {})
    assert "Relative cut of FPR95: none, JointEnergy's is 0" in text
    tree = statistics_tree(bootstraps, compare(table, bootstraps), IMAGES, {})
    assert tree["ood_sets"]["a"]["relative_reduction_of_fpr95"]["reduction"] is None


def test_what_tuning_chose_is_said():
    chosen = {"odin": {"eps": 0.002, "params": {"temperature": 10.0}, "fpr95": 12.345}}
    text = tuning_markdown({"control": {"3": chosen}})
    assert "| ODIN, control, seed 3 | 0.002 | 10 |" in text
    assert "12.3" in text
    assert "off" in tuning_markdown({})


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "p < 0.001"), (0.012, "p = 0.012"), (float("nan"), "–")]
)
def test_p_values_have_three_digits(p, text):
    assert p_value(p) == text


def test_table_3_says_which_depths_are_one_model():
    text = table3_markdown(table3(), resamples(table3(), "sn_layers"), {})
    assert "9 (104 weights, those of 8)" in text
    assert "8 (104 weights)" in text
    assert ablation_tree(table3())["a"]["7"]["fpr95"] == 94.5
    assert "| 97.50 ± 0.71 |" in text.splitlines()[5]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert ["**" in row.split("|")[2] for row in rows] == [True, False, False, False]


def test_the_ablations_series_has_its_intervals():
    series = ablation_series(table3(), resamples(table3(), "sn_layers"))
    row = series.set_index(["ood_set", "sn_layers"]).loc["a", 7]
    assert (row.fpr95, row.fpr95_low, row.fpr95_high) == (94.5, 93.55, 95.45)
    assert len(series) == 4


def test_one_seed_has_no_spread():
    assert mean_and_std(1.0, float("nan")) == "1.00"
    assert "one seed" in markdown2(table2(seeds=(0,)))


def test_markdown_columns_line_up():
    lines = markdown(["a", "bb"], [["ccc", "1"], ["d", "22"]]).splitlines()
    assert lines == ["| a   | bb |", "| --- | -: |", "| ccc |  1 |", "| d   | 22 |"]
    assert markdown(["a", "b"], [["c", "1"]]).splitlines()[1] == "| -- | -: |"


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


def test_a_table_says_when_val_is_the_test_set():
    assert "is the val split" in id_test_note({"id_test_is_val": True})
    assert id_test_note({"id_test_is_val": False}) == ""
