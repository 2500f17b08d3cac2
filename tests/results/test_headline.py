import pytest
from example_tables import classifiers, one_network, statistics, table2

from snojoe.results.at_work import AtWork, ScoreAtWork, Share
from snojoe.results.headline import headline_markdown, overall, verdicts
from snojoe.results.scores_json import Scores, scores_of
from snojoe.results.statistics_json import ComparedSet, Difference, Reduction, Statistics
from snojoe.results.tables import table2_sets

CURRENT = ScoreAtWork("joint_energy", None, Share(50, 1000), {"a": Share(1, 2)})
WORK = AtWork([], 100, CURRENT, [])
CLASSIFIERS = scores_of(table2(), classifiers()).id
EFFECTS = {"-3.47 points": False, "-5.85 points": True, "cut by 11%": False, "cut by 54%": True}


def difference(change=2.0, p=0.001, margin=3.0, interval=None):
    ends = interval or (change - 1, change + 1)
    return Difference(difference=change, interval=ends, p=p, margin=margin)


def found(seeds=3, effects=EFFECTS, **differences):
    fpr95 = Difference(difference=-1.0, interval=(-4.5, 2.5), p=0.5, margin=4.0)
    sets = {
        name: ComparedSet(
            interval={},
            bold={},
            snojoe_minus_joint_energy={
                "fpr95": fpr95 if each.interval != (0.0, 0.0) else each,
                "auroc": each,
            },
            relative_reduction_of_fpr95=Reduction(reduction=None, interval=(None, None)),
            effective_images={"id": 100, "ood": 90},
            papers_effects_excluded=effects,
        )
        for name, each in differences.items()
    }
    scores = {
        name: {"joint_energy": {"auroc": 80.0}, "snojoe": {"auroc": 80.0 + each.difference}}
        for name, each in differences.items()
    }
    return verdicts(
        Scores(id=CLASSIFIERS, ood=scores),
        Statistics(seeds=seeds, images={}, tuning={}, ood_sets=sets),
    )


def outcome(**difference_of):
    (verdict,) = found(a=difference(**difference_of))
    return verdict.outcome


def test_help_and_harm_are_of_the_one_test_of_auroc():
    assert outcome() == "helped"
    assert outcome(change=-2.0) == "hurt"
    assert outcome(p=0.06) == "not settled"


def test_one_training_says_nothing_of_another():
    (verdict,) = found(seeds=1, a=difference())
    assert verdict.outcome == "not settled"
    assert "for this training and new images" in verdict.sentence
    assert "One training says nothing of another." in verdict.sentence


def test_without_variance_nothing_is_settled():
    (verdict,) = found(a=difference(p=None, margin=None, interval=(None, None)))
    assert verdict.outcome == "not settled"
    assert "[–, –]; no test). There is no variance to test against." in verdict.sentence


def test_several_sets_are_several_tests():
    assert outcome(p=0.03) == "helped"
    verdict = found(a=difference(p=0.03), b=difference(p=0.04))
    assert [each.outcome for each in verdict] == ["not settled", "not settled"]
    assert "p = 0.030, corrected 0.060" in verdict[0].sentence


def test_a_model_against_itself():
    (verdict,) = found(a=difference(0.0, None, 0.0, interval=(0.0, 0.0)))
    assert verdict.outcome == "no difference"
    assert overall([verdict]) == "There is no difference on a."


def test_not_settled_says_what_is_excluded():
    (verdict,) = found(a=difference(0.5, 0.3, 1.4, interval=(-0.75, 1.75)))
    assert verdict.sentence == (
        "with SN, AUROC rose from 80.00% to 80.50% (+0.50 points, 95% interval for new trainings "
        "and new images [-0.75, 1.75]; p = 0.300). Excluded: a gain of more than 1.75 points and a "
        "loss of more than 0.75; equality is shown within 1.40. FPR95: -1.00 points "
        "[-4.50, 2.50]; the paper's effects excluded: -5.85 points and cut by 54%; possible: "
        "-3.47 points and cut by 11%."
    )


@pytest.mark.parametrize(("excluded", "said"), [(True, "excluded"), (False, "possible")])
def test_all_of_the_papers_effects_can_be_out_or_in(excluded, said):
    (verdict,) = found(a=difference(), effects=dict.fromkeys(EFFECTS, excluded))
    assert verdict.sentence.endswith(
        f"the paper's effects {said}: -3.47 points, -5.85 points, cut by 11% and cut by 54%."
    )


def test_no_change_is_called_so():
    (verdict,) = found(a=difference(0.0, 0.9))
    assert verdict.sentence.startswith("with SN, AUROC stayed at 80.00% (+0.00 points")
    assert verdict.outcome == "not settled"


def test_the_first_sentence_is_over_all_sets():
    sets = found(a=difference(), b=difference(p=0.5), c=difference(-2.0, p=0.004))
    assert overall(sets) == "SN helped on a; SN hurt on c; whether SN helps is not settled on b."
    sets = found(**{name: difference(p=0.2) for name in "abc"})
    assert overall(sets) == "Whether SN helps is not settled on a, b and c."


def test_the_headline_has_both_scores_and_every_metric():
    table = table2(seeds=(0, 1, 2))
    stats = statistics(table)
    verdicts_ = verdicts(scores_of(table, classifiers()), stats)
    text = headline_markdown(verdicts_, table2_sets(table, stats, {}), stats, WORK)
    assert "refuses" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 2 * 3
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    assert cells[:4] == ["a", "FPR95 ↓", "61.00 ± 1.00", "56.00 ± 1.00"]
    assert cells[4].startswith("-5.00 [-")
    assert "for new trainings and new images" in text


def test_one_network_is_compared_with_nothing():
    table = one_network(table2(seeds=(0, 1, 2)))
    stats = statistics(table)
    found = verdicts(scores_of(table, {"control": classifiers()["control"]}), stats)
    assert found == []
    text = headline_markdown(found, table2_sets(table, stats, {}), stats, WORK)
    assert text.startswith("**It refuses 5.0% [3.7, 6.5] of 1,000 in-distribution test images, wh")
    assert "SN" not in text
    assert "difference" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    assert cells[:3] == ["a", "FPR95 ↓", "61.00 ± 1.00"]
    low, high = map(float, cells[3].strip("[]").split(", "))
    assert low < 61 < high
    assert len(rows) == 2 + 2 * 3
