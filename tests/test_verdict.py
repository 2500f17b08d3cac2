"""The findings' analysis, on made-up trainings: docs/findings/plan.md."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from snojoe.measures.ood_metrics import AUROC, FPR95

PATH = Path(__file__).parents[1] / "experiments" / "verdict.py"


@pytest.fixture(scope="module")
def verdict():
    spec = importlib.util.spec_from_file_location("verdict", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdict"] = module
    spec.loader.exec_module(module)
    return module


def trainings(effect, spread=1.0, draws=12):
    """Two seeds a draw of every main arm; SN moves AUROC by `effect`, FPR95 by minus twice that."""
    rng = np.random.default_rng(0)
    rows = []
    for draw in range(100, 100 + draws):
        for seed in (10 * draw, 10 * draw + 1):
            for batch_norm in ("frozen3", "train"):
                for bound, depth in (("none", 0), ("hard", 9), ("hard", 10)):
                    auroc = 80 + effect * (depth > 0) + spread * rng.normal()
                    arm = {"bound": bound, "batch_norm": batch_norm, "sn_layers": depth}
                    metrics = {"auroc": auroc, "fpr95": 230 - 2 * auroc, "aupr": auroc}
                    rows.append({"draw": draw, "seed": seed, **arm, "ood_set": "a", **metrics})
    return pd.DataFrame(rows).assign(val_map=99.0)


def test_an_effect_is_found_with_its_sign(verdict):
    for effect, expected in ((3.0, "SN helps"), (-3.0, "SN harms")):
        for metric in (AUROC, FPR95):
            found = verdict.comparisons(trainings(effect), metric, verdict.MAIN)
            assert [verdict.conclusion(each, 0.001) for each in found] == [expected] * 4


def test_no_effect_is_equal_within_the_margin_or_not_settled(verdict):
    (first, *_) = verdict.comparisons(trainings(0, 0.5), AUROC, verdict.MAIN)
    assert verdict.conclusion(first, 0.9) == "no effect of 2 points"
    (first, *_) = verdict.comparisons(trainings(0, 9.0), AUROC, verdict.MAIN)
    assert verdict.conclusion(first, 0.9) == "not settled"


def test_the_test_is_over_draws_not_over_trainings(verdict):
    table = trainings(0)
    (first, *_) = verdict.comparisons(table, AUROC, verdict.MAIN)
    assert first.arm.shape == first.control.shape == (12, 2)
    low, high = first.interval()
    half = 2.200985 * first.differences.std(ddof=1) / 12**0.5  # Student's t, 11 degrees of freedom
    assert (high - low) / 2 == pytest.approx(half, rel=1e-5)
    assert first.margin() < max(abs(low), abs(high))


def test_the_relative_cut_is_of_the_means(verdict):
    (first, *_) = verdict.comparisons(trainings(5.0, 0.1), FPR95, verdict.MAIN)
    cut, (low, high) = first.relative_cut()
    assert cut == pytest.approx(100 * (1 - 60 / 70), abs=0.5)
    assert low < cut < high


def test_the_tables_have_every_arm(verdict):
    text = verdict.as_markdown(trainings(0))
    assert "## 144 trainings" in text
    assert text.count(" hard, train mode, depth 10 ") >= 5
    assert "-3.47" in text
    assert "exploratory" not in text
