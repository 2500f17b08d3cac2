import pytest
from example_tables import classifiers, statistics, table2

from snojoe.results.headline import headline_markdown, overall, verdicts
from snojoe.results.scores_json import Scores, scores_of
from snojoe.results.statistics_json import Difference, Reduction, SetStatistics, Statistics
from snojoe.results.tables import table2_sets

CLASSIFIERS = scores_of(table2(), classifiers()).id


def difference(change=-5.0, images=0.001, seeds=0.01, n=5, interval=None):
    return Difference(
        difference=change,
        interval=interval or (change - 1, change + 1),
        p_over_images=images,
        p_over_seeds=seeds,
        effect_size=None,
        seeds=n,
        note="",
    )


def found(**differences):
    sets = {
        name: SetStatistics(
            interval={},
            bold={},
            snojoe_minus_joint_energy={"fpr95": each},
            relative_reduction_of_fpr95=Reduction(reduction=None, interval=(None, None)),
        )
        for name, each in differences.items()
    }
    scores = {
        name: {"joint_energy": {"fpr95": 50.0}, "snojoe": {"fpr95": 50.0 + each.difference}}
        for name, each in differences.items()
    }
    return verdicts(
        Scores(id=CLASSIFIERS, ood=scores),
        Statistics(resamples=2000, images={}, tuning={}, ood_sets=sets),
    )


def outcome(**difference_of):
    (verdict,) = found(a=difference(**difference_of))
    return verdict.outcome


def test_help_and_harm_need_images_and_seeds():
    assert outcome() == "helped"
    assert outcome(change=5.0) == "hurt"
    assert outcome(images=0.2) == "not settled"
    assert outcome(seeds=0.2) == "not settled"


@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_than_five_seeds_settle_nothing(n):
    (verdict,) = found(a=difference(n=n))
    assert verdict.outcome == "not settled"
    assert f"over n = {n} seeds it stands (p = 0.010, and fewer than 5" in verdict.sentence


def test_one_seed_says_nothing_of_another():
    (verdict,) = found(a=difference(n=1, seeds=None))
    assert verdict.outcome == "not settled"
    assert "one seed says nothing of another training" in verdict.sentence


def test_seeds_without_variance_settle_nothing():
    (verdict,) = found(a=difference(seeds=None))
    assert verdict.outcome == "not settled"
    assert "no variance" in verdict.sentence


def test_several_sets_are_several_tests():
    assert outcome(seeds=0.03) == "helped"
    verdict = found(a=difference(seeds=0.03), b=difference(seeds=0.04))
    assert [each.outcome for each in verdict] == ["not settled", "not settled"]
    assert "spread of training (p = 0.030, corrected 0.060)." in verdict[0].sentence


def test_a_model_against_itself():
    (verdict,) = found(a=difference(0.0, 1.0, None, 3, interval=(0.0, 0.0)))
    assert verdict.outcome == "no difference"
    assert overall([verdict]) == "There is no difference on a."


def test_the_sentence_has_the_size_and_the_doubt():
    (verdict,) = found(a=difference(-4.0, 0.0009, 0.3))
    assert verdict.sentence == (
        "with SN, FPR95 fell from 50.00% to 46.00% (-4.00 points, 95% interval over images "
        "[-5.00, -3.00]). Over the images this is more than chance (p < 0.001); over n = 5 seeds "
        "it is not separable from the spread of training (p = 0.300)."
    )


def test_no_change_is_called_so():
    (verdict,) = found(a=difference(0.0, 0.9, 0.9))
    assert verdict.sentence.startswith("with SN, FPR95 stayed at 50.00% (+0.00 points")
    assert verdict.outcome == "not settled"


def test_the_first_sentence_is_over_all_sets():
    sets = found(a=difference(), b=difference(seeds=0.5), c=difference(2.0, seeds=0.004))
    assert overall(sets) == "SN helped on a; SN hurt on c; whether SN helps is not settled on b."
    sets = found(**{name: difference(n=3) for name in "abc"})
    assert overall(sets) == "Whether SN helps is not settled on a, b and c."


def test_the_headline_has_both_scores_and_every_metric():
    table = table2()
    stats = statistics(table)
    verdicts_ = verdicts(scores_of(table, classifiers()), stats)
    text = headline_markdown(verdicts_, table2_sets(table, stats, {}), stats, seeds=2)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 2 * 3
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    assert cells[:4] == ["a", "FPR95 ↓", "60.50 ± 0.71", "55.50 ± 0.71"]
    assert cells[4] == "-5.00 [-5.00, -5.00]"
    assert cells[5:] == ["p < 0.001", "–"]
