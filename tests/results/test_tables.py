import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from example_tables import (
    IMAGES,
    classifiers,
    estimates2,
    estimates_of,
    one_network,
    statistics,
    table2,
    table3,
)

from snojoe.data.class_names import COCO, NUS_WIDE, VOC
from snojoe.data.prepared import PreparedSets
from snojoe.data.pseudo_ood import SEEN
from snojoe.detectors import PAPER_DETECTORS
from snojoe.inference.tuned import Tuned
from snojoe.results.formatting import interval, markdown_table, mean_and_std, p_value
from snojoe.results.grids import ScoreRow, paper_rows
from snojoe.results.markdown import (
    full_table2_markdown,
    id_test_note,
    table2_markdown,
    table3_markdown,
    tuning_markdown,
)
from snojoe.results.paper import (
    JOINT_ENERGYS,
    JOINT_ENERGYS_TABLE,
    MS_COCO,
    NUS,
    NUS_OOD,
    PAPERS,
    PASCAL_VOC,
    TABLE_2,
    TABLE_3,
    PaperFigures,
    beside_table2,
    paper_cut,
    published,
)
from snojoe.results.scores_json import read_scores, scores_of, write_scores
from snojoe.results.statistics_json import bold_by_metric, read_statistics, write_statistics
from snojoe.results.summary_json import summary_of
from snojoe.results.table3 import ablation_means, ablation_series
from snojoe.results.tables import full_table2_sets, table2_sets, table3_sets
from snojoe.support.errors import SnojoeError


def markdown2(table, paper=None, estimates=None):
    stats = statistics(table, estimates)
    cuts = {name: paper_cut(figures) for name, figures in (paper or {}).items()}
    tables = table2_sets(table, stats, {PAPERS: paper or {}})
    return table2_markdown(tables, stats, cuts)


def test_snojoe_is_joint_energy_on_the_sn_model():
    scores = scores_of(table2(), classifiers())
    assert scores.ood["a"]["joint_energy"]["fpr95"] == 60.5
    assert scores.ood["a"]["snojoe"]["fpr95"] == 55.5
    assert scores.id.map == 91.5
    assert scores.id.map_control == 90.5


def of_one_network(seeds=(0, 1)):
    table = one_network(table2(seeds=seeds))
    return table, scores_of(table, {"control": classifiers()["control"]}), statistics(table)


def test_of_one_network_nothing_is_there_twice(tmp_path):
    table, scores, stats = of_one_network()
    write_scores(tmp_path / "scores.json", scores)
    write_statistics(tmp_path / "statistics.json", stats)
    assert read_scores(tmp_path / "scores.json") == scores
    assert read_statistics(tmp_path / "statistics.json") == stats
    tree = json.loads((tmp_path / "scores.json").read_text())
    assert tree["id"] == {
        "map": 90.5, "map_interpolated": 92.0, "accepted": 94.5, "classes": 7
    }  # fmt: skip
    assert list(tree["a"]) == [detector.name for detector in PAPER_DETECTORS]
    of_set = json.loads((tmp_path / "statistics.json").read_text())["ood_sets"]["a"]
    assert list(of_set) == ["interval", "bold"]
    assert stats.compared == {}
    assert list(statistics(table2()).compared) == ["a", "b"]
    text = markdown2(table, {}, estimates2(table))
    full = full_table2_markdown(full_table2_sets(table), seeds=2)
    for each in (text, full):
        assert "SN" not in each
        assert "control" not in each
        assert each.count("| JointEnergy ") == 2  # one for each set


def test_the_summary_of_one_network_has_the_same_numbers_but_for_the_control():
    both = summary_of(scores_of(table2(), classifiers()), 9, 104)
    one = summary_of(of_one_network()[1], 0, 0)
    assert list(one) == list(both)
    assert one["a"] == {"fpr95": 60.5, "auroc": 56.0, "aupr": 66.0}
    assert list(both["a"]) == [*one["a"], "fpr95_control"]
    many = one_network(table2(("a", "b", "c")))
    means = summary_of(scores_of(many, {"control": classifiers()["control"]}), 0, 0)
    assert means["mean of 3 sets"] == one["a"]


def test_scores_and_statistics_are_read_as_they_were_written(tmp_path):
    scores, stats = scores_of(table2(), classifiers()), statistics(table2())
    write_scores(tmp_path / "scores.json", scores)
    write_statistics(tmp_path / "statistics.json", stats)
    assert read_scores(tmp_path / "scores.json") == scores
    assert read_statistics(tmp_path / "statistics.json") == stats
    assert list(json.loads((tmp_path / "scores.json").read_text())) == ["id", "a", "b"]


@pytest.mark.parametrize("read", [read_scores, read_statistics])
@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_damaged_file_is_named(tmp_path, read, content):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(SnojoeError, match=r"a\.json: not readable"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("sets", [("a",), ("a", "b"), ("a", "b", "c", "d")])
def test_the_summary_has_at_most_a_dozen_numbers(sets):
    summary = summary_of(scores_of(table2(sets), classifiers()), 9, 104)
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
    assert re.search(r"55\.50 ± 0\.71 \[\d+\.\d\d, \d+\.\d\d\]", rows[-1])
    assert rows[-1].rstrip(" |").endswith("99.00")
    assert "Relative cut of FPR95: 8.3% [" in text
    assert "the paper's: 54%" in text
    assert "the paper's: 54%" not in markdown2(table2())
    assert "on FPR95: -3.47 points excluded, -5.85" in markdown2(table2(), {}, exact())


def exact():
    """Estimates that images do not move, of five seeds that say almost the same."""
    table = table2(seeds=range(5))
    table.fpr95 = table.fpr95.round(-1) + 0.001 * table.seed**2 - 5 * (table.model == "sn")
    table.loc[table.model == "sn", "fpr95"] += 0.001 * table.seed
    return estimates2(table, 0.0)


def test_the_best_and_what_is_not_shown_to_be_worse_is_bold():
    table = table2(("a",), range(5))
    table.loc[table.score == "msp", "fpr95"] = 0.1 + table.seed
    text = markdown2(table, estimates=estimates2(table))
    fpr95 = [line.split("|")[2] for line in text.splitlines() if line.startswith("|")][2:10]
    assert ["**" in cell for cell in fpr95] == [True, True] + [False] * 6


def test_the_difference_stands_below_with_its_test_and_its_n():
    text = markdown2(table2(("a",), seeds=(0, 1, 2)))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "-5.00 [-" in lines["difference"]
    assert "p = " in lines["p"] or "p < " in lines["p"]
    assert lines["equal within"].count(".") == 3
    assert "For new trainings and new images: 3 seeds, 600 ID images (as" in text


def test_one_seed_speaks_of_this_training():
    text = markdown2(table2(("a",), seeds=(0,)))
    assert "For this training and new images: 1 seed," in text


def test_the_comparison_is_of_the_sn_model_with_the_control():
    stats = statistics(table2(("a",), (0, 1, 2)))
    assert stats.seeds == 3
    assert stats.ood_sets["a"].snojoe_minus_joint_energy["fpr95"].difference == -5


def test_statistics_are_json_in_percent():
    tree = statistics(table2(seeds=range(5))).model_dump(mode="json")
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert (tree["seeds"], tree["images"]) == (5, IMAGES)
    of_set = tree["ood_sets"]["b"]
    low, high = of_set["interval"]["snojoe"]["fpr95"]
    assert 0 < low < 57 < high < 100
    assert of_set["bold"]["fpr95"] == ["max_logit"]
    assert of_set["snojoe_minus_joint_energy"]["fpr95"]["difference"] == -5
    assert of_set["relative_reduction_of_fpr95"]["reduction"] == 8.06
    assert list(of_set["effective_images"]) == ["id", "ood"]


def test_the_papers_effects_are_excluded_where_they_lie_outside():
    of_set = statistics(table2(), exact()).ood_sets["a"]
    assert of_set.snojoe_minus_joint_energy["fpr95"].difference == -5
    assert of_set.papers_effects_excluded == {
        "-3.47 points": True,
        "-5.85 points": True,
        "cut by 11%": True,
        "cut by 54%": True,
    }
    wide = statistics(table2(), estimates2(table2(), 100.0)).ood_sets["a"]
    assert wide.papers_effects_excluded["-5.85 points"] is False


def test_the_full_table_has_every_score_on_both_models():
    text = full_table2_markdown(full_table2_sets(table2()), seeds=2)
    rows = [line for line in text.splitlines() if line[:2] == "| "]
    assert len(rows) == 2 * (2 + 2 * len(PAPER_DETECTORS))
    assert any(row.startswith("| MaxLogit, control ") for row in rows)
    assert any(row.startswith("| MaxLogit, with SN ") for row in rows)


def test_the_rows_of_the_paper_are_scores_on_the_control_and_snojoe():
    rows = paper_rows(8)
    assert rows["max_logit"] == ScoreRow("max_logit", "control", 0)
    assert rows["snojoe"] == ScoreRow("joint_energy", "sn", 8)
    assert len(rows) == 8
    assert list(paper_rows(0)) == [detector.name for detector in PAPER_DETECTORS]


def test_a_baseline_without_errors_cannot_be_cut():
    table = table2(("a",))
    table.loc[table.score == "joint_energy", "fpr95"] = 0
    assert "Relative cut of FPR95: none, JointEnergy's is 0" in markdown2(table)
    stats = statistics(table)
    assert stats.ood_sets["a"].relative_reduction_of_fpr95.reduction is None


def test_what_tuning_chose_is_said():
    chosen = {"odin": Tuned(eps=0.002, params={"temperature": 10.0}, fpr95=12.345)}
    text = tuning_markdown({"control": {"3": chosen}})
    assert "| ODIN, control, seed 3 | 0.002 | 10 |" in text
    assert "12.3" in text
    assert SEEN[1:] not in text
    assert SEEN[1:] in tuning_markdown({"control": {"3": chosen}}, seen=True)
    assert "off" in tuning_markdown({})


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "p < 0.001"), (0.012, "p = 0.012"), (float("nan"), "–"), (None, "–")]
)
def test_p_values_have_three_digits(p, text):
    assert p_value(p) == text


def test_table_3_says_which_depths_are_one_model():
    estimates = estimates_of(table3(seeds=range(5)), "sn_layers", 5.0)
    bold = {ood_set: bold_by_metric(rows) for ood_set, rows in estimates.items()}
    series = ablation_series(table3(), estimates)
    text = table3_markdown(table3_sets(table3(), series, {}, bold), seeds=2)
    assert "9 (104 weights, those of 8)" in text
    assert "8 (104 weights)" in text
    assert ablation_means(table3())["a"]["7"]["fpr95"] == 47.5
    assert "| 97.50 ± 0.71 |" in text.splitlines()[5]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert ["**" in row.split("|")[2] for row in rows] == [True, False, False, False]


def test_the_ablations_series_has_its_intervals():
    estimates = estimates_of(table3(), "sn_layers", 5.0)
    series = ablation_series(table3(), estimates)
    row = series.set_index(["ood_set", "sn_layers"]).loc["a", 7]
    low, high = estimates["a"][7]["fpr95"].interval()
    assert (row.fpr95, row.fpr95_low, row.fpr95_high) == (
        *(47.5, round(100 * low, 2), round(100 * high, 2)),
    )
    assert len(series) == 4


def test_an_end_that_is_not_defined_is_a_dash():
    assert interval((-1.234, 5)) == "[-1.23, 5.00]"
    assert interval((None, 5.0)) == "[–, 5.00]"


def test_one_seed_has_no_spread():
    assert mean_and_std(1.0, float("nan")) == "1.00"
    assert "one seed" in markdown2(table2(seeds=(0,)))


def test_markdown_columns_line_up():
    lines = markdown_table(["a", "bb"], [["ccc", "1"], ["d", "22"]]).splitlines()
    assert lines == ["| a   | bb |", "| --- | -: |", "| ccc |  1 |", "| d   | 22 |"]
    assert markdown_table(["a", "b"], [["c", "1"]]).splitlines()[1] == "| -- | -: |"


def prepared(test=10_991, ood=5_640, id_test_is_val=False):
    sets = {"id": {"test": {"images": test}}, "ood": {"mine": {"images": ood}}}
    return PreparedSets.model_validate(sets | {"id_test_is_val": id_test_is_val})


@pytest.mark.parametrize(
    ("test", "ood", "classes", "expected"),
    [
        (10_991, 5_640, VOC, "texture"),
        (10_991, 18_835, VOC, "imagenet22k"),
        (10_990, 5_640, VOC, None),
        (10_991, 5_639, VOC, None),
        (10_991, 5_640, ("dog",), None),
    ],
)
def test_the_papers_figures_stand_beside_the_papers_data_alone(test, ood, classes, expected):
    found = published(TABLE_2, prepared(test, ood), list(classes))
    assert found == ({"mine": TABLE_2[expected]} if expected else {})


ID_SETS = {"voc": PASCAL_VOC, "coco": MS_COCO, "nus": NUS}


def prepared_sets(test_images, ood):
    sets = {"id": {"test": {"images": test_images}}, "id_test_is_val": False}
    return PreparedSets.model_validate(
        sets | {"ood": {name: {"images": images} for name, images in ood.items()}}
    )


OOD = {"mine": 18_835, "dtd": 5_640, "mnist": 10_000, NUS_OOD: 20_000}


@pytest.mark.parametrize(
    ("name", "papers", "joint_energys"),
    [("voc", {"mine", "dtd"}, {"mine"}), ("coco", set(), {"mine"}), ("nus", set(), {NUS_OOD})],
)
def test_no_figure_of_another_set_stands_beside_ours(name, papers, joint_energys):
    """Every published figure in the text is one of this set; the rest is not there at all."""
    id_set = ID_SETS[name]
    beside = beside_table2(prepared_sets(id_set.test_images, OOD), list(id_set.classes))
    assert {source: set(sets) for source, sets in beside.items()} == {
        PAPERS: papers, JOINT_ENERGYS: joint_energys}  # fmt: skip
    own = {figures for rows in beside[JOINT_ENERGYS].values() for figures in rows.values()}
    assert own == set(JOINT_ENERGYS_TABLE[id_set].values())

    ours = table2(tuple(OOD))
    stats = statistics(ours).model_copy(update={"images": OOD | {"id": id_set.test_images}})
    cuts = {each: paper_cut(figures) for each, figures in beside[PAPERS].items()}
    text = table2_markdown(table2_sets(ours, stats, beside), stats, cuts)
    printed = {cell.strip() for line in text.splitlines() for cell in line.split("|")}
    published_figures = {
        which: {f"{figure:.2f}" for rows in tables for row in rows.values() for figure in row}
        for which, tables in {
            **{each: [JOINT_ENERGYS_TABLE[ID_SETS[each]]] for each in ID_SETS},
            "paper": list(TABLE_2.values()),
        }.items()
    }
    mine = {name, "paper"} if papers else {name}
    allowed = set().union(*(published_figures[which] for which in mine))
    others = set().union(*published_figures.values()) - allowed
    assert printed & allowed == allowed
    assert not printed & others
    assert ("DenseNet-121" in text) == bool(joint_energys)


@pytest.mark.parametrize("name", ID_SETS)
@pytest.mark.parametrize("change", ["test", "classes", "order", "ood"])
def test_no_figure_stands_beside_other_data(name, change):
    id_set = ID_SETS[name]
    classes, images = list(id_set.classes), id_set.test_images
    ood = {"mine": 18_834, "dtd": 5_639, "other": 1} if change == "ood" else OOD
    classes = {"classes": classes[1:], "order": classes[::-1]}.get(change, classes)
    sets = prepared_sets(images - (change == "test"), ood)
    assert beside_table2(sets, classes) == {PAPERS: {}, JOINT_ENERGYS: {}}


def test_the_papers_classes_under_the_other_name_are_not_those_for_nus_wide():
    sets = prepared_sets(NUS.test_images, {NUS_OOD: 18_835})
    assert beside_table2(sets, list(NUS.classes))[JOINT_ENERGYS] == {}


def test_nothing_of_the_journal_version_is_here():
    """Only its relative cuts with MS-COCO are known: 11.3% and 42.58%."""
    import snojoe.results

    sources = [p.read_text() for p in Path(snojoe.results.__file__).parent.rglob("*.*[ya]")]
    assert len(sources) > 10
    assert not any(re.search(r"\b11\.3\b|42\.58", text) for text in sources)


def test_the_classes_are_so_many():
    assert [len(names) for names in (VOC, COCO, NUS_WIDE)] == [20, 80, 81]
    assert all(len(set(names)) == len(names) for names in (VOC, COCO, NUS_WIDE))


def test_the_papers_headline_follows_from_its_tables():
    """11% and 54% relative reductions of FPR95, and 19% against the paper's own depth 0."""

    def reduction(before: PaperFigures, after: PaperFigures) -> int:
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
    assert "is the val split" in id_test_note(prepared(id_test_is_val=True))
    assert id_test_note(prepared()) == ""
