"""Hyperparameters that are chosen by pseudo-OOD images, and by nothing else."""

from functools import partial

import numpy as np
import pytest
from test_grids import SEEDS, write_experiment, write_set

from snojoe.data.pseudo_ood import PSEUDO_OOD
from snojoe.detectors import DETECTORS, LinearHead, ModelOutputs, fit_variants
from snojoe.measures.clusters import Clusters
from snojoe.results import grids
from snojoe.results.auto import mean_fpr95s
from snojoe.results.grids import ScoreRow, score_grid
from snojoe.results.leaderboard import leaderboard, leaderboard_markdown
from snojoe.results.tuned_scores import (
    Choice,
    TunedScores,
    pseudo_fpr95s,
    tuned_markdown,
    tuned_places,
    tuned_score_grid,
)

NAMES = ("max_logit", "top_k_energy", "lof", "knn", "vim")
HEAD = LinearHead(np.eye(3), np.zeros(3))


def of_logits(logits):
    return ModelOutputs(logits, np.zeros((len(logits), 1)), logits)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "DETECTORS", {name: DETECTORS[name] for name in NAMES})
    return write_experiment(tmp_path)


def write_pseudo(experiment, seed_of=lambda depth, seed: [depth, seed, 1]):
    for depth in (0, 9):
        for seed in SEEDS:
            rng = np.random.default_rng(seed_of(depth, seed))
            folder = experiment.folders.pseudo_outputs(depth, seed)
            for name in ("id", *PSEUDO_OOD):
                write_set(folder / name, rng, 30, labelled=False)


@pytest.mark.parametrize(("id_labels", "expected"), [(1, 1), (3, 3)])
def test_the_value_that_tells_them_apart_is_chosen(id_labels, expected):
    """OOD images have two labels of middling energy; one sure label is less, three are more."""
    rng = np.random.default_rng(0)
    logits = np.full((100, 3), -9.0)
    logits[:, :id_labels] = 6 if id_labels == 1 else 3
    ood = np.full((80, 3), -9.0)
    ood[:, :2] = 4
    of_id, sets = of_logits(logits + rng.normal(0, 0.1, logits.shape)), [of_logits(ood)]
    variants = fit_variants("top_k_energy", of_id, of_id, HEAD)
    fpr95s = pseudo_fpr95s(variants, of_id, sets, HEAD)
    by_k = {each.k: value for each, value in zip(variants, fpr95s, strict=True)}
    assert by_k[expected] == 0
    assert by_k[4 - expected] == 1


def test_what_learns_from_val_is_measured_on_the_half_that_it_has_not_seen():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(60, 3))
    logits[::2] += 100  # each half is far from the other
    of_id, ood = of_logits(logits), of_logits(rng.normal(50, 1, (40, 3)))
    lof = partial(fit_variants, "lof", of_id, of_id, HEAD)
    assert mean_fpr95s(lof(), of_id, [ood])[0] == 0
    assert pseudo_fpr95s(lof(), of_id, [ood], HEAD)[0] == 1
    assert pseudo_fpr95s(lof(), of_id.rows(np.arange(60) < 3), [ood], HEAD) is None


def test_each_training_chooses_and_the_tables_have_its_scores(experiment):
    write_pseudo(experiment)
    before = score_grid(experiment, 9)
    grid, tuned = tuned_score_grid(experiment, 9)
    for row in before.id:
        for name, scores in before.scores(row).items():
            assert np.array_equal(grid.scores(row)[name], scores)
    assert {row.score for row in tuned.choices} == {"top_k_energy", "lof", "knn", "vim"}
    assert tuned.choices.keys() == tuned.grid.id.keys()
    changed = 0
    for row, choices in tuned.choices.items():
        for i, (seed, choice) in enumerate(zip(SEEDS, choices, strict=True)):
            assert choice.fpr95 <= choice.default_fpr95
            val = experiment.outputs(row.sn_layers, seed, "val")
            variants = grids.fit_row_variants(experiment, row, seed, val)
            (chosen,) = [v for v in variants if choice.params.items() <= v.get_params().items()]
            for name, folder in experiment.test_sets.items():
                outputs = experiment.outputs(row.sn_layers, seed, folder)
                expected = chosen.score_outputs(outputs)
                assert np.array_equal(tuned.grid.scores(row)[name][i], expected)
            changed += choice.changed
    assert changed > 3


def test_no_test_or_ood_image_takes_part(experiment):
    write_pseudo(experiment)
    _, before = tuned_score_grid(experiment, 0)
    rng = np.random.default_rng(3)
    for depth in (0, 9):
        for seed in SEEDS:
            for name in experiment.test_sets.values():
                for path in experiment.folders.outputs(depth, seed, name).glob("*.npy"):
                    np.save(path, np.float32(rng.normal(size=np.load(path).shape)))
    _, after = tuned_score_grid(experiment, 0)
    assert after.choices == before.choices
    write_pseudo_anew(experiment)
    _, other = tuned_score_grid(experiment, 0)
    assert other.choices != before.choices


def write_pseudo_anew(experiment):
    for depth in (0, 9):
        for seed in SEEDS:
            rng = np.random.default_rng([depth, seed, 2])
            for path in experiment.folders.pseudo_outputs(depth, seed).rglob("*.npy"):
                np.save(path, np.float32(rng.normal(size=np.load(path).shape)))


def test_among_equals_the_default_stays(experiment):
    write_pseudo(experiment)
    for depth in (0, 9):
        for seed in SEEDS:
            folder = experiment.folders.pseudo_outputs(depth, seed)
            for name in PSEUDO_OOD:  # the images themselves: every score accepts 95% of them
                for path in (folder / name).iterdir():
                    np.save(path, np.load(folder / "id" / path.name))
    _, tuned = tuned_score_grid(experiment, 0)
    assert not any(
        choice.changed
        for row, choices in tuned.choices.items()
        for choice in choices
        if row.score != "lof"  # of halves of them
    )


def test_without_pseudo_ood_images_nothing_is_tuned(experiment):
    grid, tuned = tuned_score_grid(experiment, 0)
    assert tuned.choices == {}
    assert tuned_markdown(grid, tuned).startswith("There are no pseudo-OOD images")
    places = leaderboard(grid, clusters(grid), tuned_places(tuned))
    assert all(place.tuned is None for place in places)
    assert "tuned" not in leaderboard_markdown(places, {"near": None, "far": None}, 2)


def clusters(grid):
    return {name: Clusters.independent(n) for name, n in grid.images().items()}


def test_the_leaderboard_has_a_second_column(experiment):
    write_pseudo(experiment)
    grid, tuned = tuned_score_grid(experiment, 9)
    places = leaderboard(grid, clusters(grid), tuned_places(tuned))
    assert places == [
        place._replace(tuned=found.tuned)
        for place, found in zip(leaderboard(grid, clusters(grid)), places, strict=True)
    ]
    table = tuned.grid.metrics()
    for place in places:
        if place.score == "max_logit":
            assert place.tuned is None
            continue
        of_row = table[(table.score == place.score) & (table.model == place.model)]
        assert place.tuned.auroc == pytest.approx(of_row.auroc.mean())
        assert place.tuned.fpr95 == pytest.approx(of_row.fpr95.mean())
        depth = 9 if place.model == "sn" else 0
        choices = tuned.choices[ScoreRow(place.score, place.model, depth)]
        assert place.tuned.changed == sum(choice.changed for choice in choices)
    lines = leaderboard_markdown(places, {"near": None, "far": None}, 2).splitlines()
    assert "tuned, mean of the sets" in lines[0]
    knn = next(place for place in places if place.score == "knn")
    line = next(line for line in lines if line.startswith(f"| {knn.title}, "))
    gain = knn.tuned.auroc - np.mean([*knn.auroc.values()])
    assert f" {knn.tuned.auroc:.2f} ({gain:+.2f}), " in line
    assert f" {knn.tuned.changed} of 2 |" in line


def test_the_table_of_choices(experiment):
    write_pseudo(experiment)
    grid, tuned = tuned_score_grid(experiment, 9)
    rows = [row for row in tuned.choices if row.score == "knn"]
    choices = {
        row: [Choice({"k": 5 if i else None}, {"k": None}, 0.25, 0.5) for i in range(2)]
        for row in rows
    }
    choices[rows[1]] = 2 * [Choice({"k": 5}, {"k": None}, 0.25, 0.5)]
    text = tuned_markdown(grid, TunedScores(tuned.grid, choices))
    first = next(line for line in text.splitlines() if line.startswith("| KNN"))
    cells = [cell.strip() for cell in first.split("|")[1:-1]]
    offered = "k: rule, 1, 5, 10, 50, 100"
    assert cells == ["KNN", offered, "50.00, 25.00", "rule, 5", "5 (2)"]


def test_the_table_says_what_came_of_it(experiment):
    write_pseudo(experiment)
    grid, tuned = tuned_score_grid(experiment, 9)
    default = grid.metrics().groupby(["ood_set", "model", "score"])[["auroc", "fpr95"]].mean()
    chosen = tuned.grid.metrics().groupby(["ood_set", "model", "score"])[["auroc", "fpr95"]].mean()
    others = [
        row.score
        for row, choices in tuned.choices.items()
        if row.model == "sn" and any(choice.changed for choice in choices)
    ]
    changes = (chosen - default).dropna().loc["far", "sn"].loc[others]
    line = next(
        line
        for line in tuned_markdown(grid, tuned).splitlines()
        if line.startswith("| far, with SN")
    )
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells == [
        f"{len(others)} of 4",
        f"{(changes.auroc > 0).sum()} better, {(changes.auroc < 0).sum()} worse",
        f"{changes.auroc.mean():+.2f}",
        f"{(changes.fpr95 < 0).sum()} better, {(changes.fpr95 > 0).sum()} worse",
        f"{changes.fpr95.mean():+.2f}",
    ]
