import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import model_config
from safetensors.numpy import save_file

from snojoe.data.shards import ShardRow, write_shards
from snojoe.detectors import DETECTORS, JointEnergy
from snojoe.experiment import Folders
from snojoe.inference.tuned import Tuned, write_tuning
from snojoe.measures import metrics
from snojoe.measures.clusters import Clusters
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.results import grids
from snojoe.results.classifier import classifier_metrics
from snojoe.results.grids import DepthRow, ScoreRow, depth_grid, score_grid
from snojoe.results.stored import Experiment
from snojoe.support.errors import SnojoeError

ROOT = Path(__file__).parents[2]
K, FEATURES, HIDDEN = 3, 5, 8
SIZES = {"train": 60, "val": 40, "test": 30, "near": 20, "far": 25}
SEEDS = [0, 4]


def write_set(folder, rng, n, labelled):
    folder.mkdir(parents=True)
    labels = (rng.random((n, K)) < 0.5).astype(np.uint8)
    np.save(folder / "logits.npy", np.float32(3 * labels + rng.normal(-1, 1, (n, K))))
    np.save(folder / "features.npy", np.float32(rng.normal(size=(n, FEATURES))))
    np.save(folder / "hidden.npy", np.float32(np.abs(rng.normal(size=(n, HIDDEN)))))
    if labelled:
        np.save(folder / "labels.npy", labels)


def write_experiment(folder):
    """Outputs and models of depths 0, 7 and 9, as the stages lay them out."""
    folders = Folders(folder)
    rng = np.random.default_rng(8)
    labels = (rng.random((SIZES["val"], K)) < 0.5).astype(np.uint8)
    rows = [ShardRow(f"a/{i}.jpg", bytes(12), of, []) for i, of in enumerate(labels)]
    write_shards(folders.shards("val"), rows, split="val", content="pixels", image_size=2)
    rows = [ShardRow(f"b/{i}.jpg", bytes(12), None, []) for i in range(SIZES["test"])]
    write_shards(folders.shards("test"), rows, split="test", content="pixels", image_size=2)
    for depth, weights in ((0, 0), (7, 10), (9, 12)):
        for seed in SEEDS:
            rng = np.random.default_rng([depth, seed])
            model = folders.model(depth, seed)
            model.mkdir(parents=True)
            config = model_config("abc", normalized_weights=weights)
            (model / "config.json").write_text(config.model_dump_json())
            head = {"weight": rng.normal(size=(K, HIDDEN)), "bias": rng.normal(size=K)}
            tensors = {f"head.classifier.{name}": np.float32(v) for name, v in head.items()}
            save_file(tensors, model / "model.safetensors")
            for name, n in SIZES.items():
                target = folders.outputs(depth, seed, name)
                write_set(target, rng, n, labelled=name in ("train", "val"))
    return Experiment(folders, ["near", "far"], SEEDS)


@pytest.fixture
def experiment(tmp_path):
    return write_experiment(tmp_path)


@pytest.fixture
def few_scores(monkeypatch):
    names = ("max_logit", "odin", "mahalanobis", "joint_energy")
    monkeypatch.setattr(grids, "DETECTORS", {name: DETECTORS[name] for name in names})


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return score_grid(write_experiment(tmp_path_factory.mktemp("experiment")), 9)


def test_every_score_is_on_both_models_and_every_set_and_seed(grid):
    table = grid.metrics()
    keys = ["ood_set", "score", "model", "sn_layers", "seed"]
    assert list(table.columns) == [*keys, "fpr95", "auroc", "aupr", "aupr_out"]
    assert not table.duplicated(["ood_set", "score", "model", "seed"]).any()
    assert len(table) == 2 * len(DETECTORS) * 2 * len(SEEDS)
    assert set(zip(table.model, table.sn_layers, strict=True)) == {("control", 0), ("sn", 9)}
    assert list(dict.fromkeys(table.score)) == list(DETECTORS)
    assert grid.images() == {"id": 30, "near": 20, "far": 25}


def test_one_network_is_a_model_once(experiment, few_scores, grid):
    alone = score_grid(experiment, 0)
    table = alone.metrics()
    assert set(zip(table.model, table.sn_layers, strict=True)) == {("control", 0)}
    assert len(table) == 2 * 4 * len(SEEDS)
    row = ScoreRow("joint_energy", "control", 0)
    assert (alone.ood["far"][row] == grid.ood["far"][row]).all()


def test_metrics_are_percentages_of_the_scores_of_test_against_ood(experiment, grid):
    table = grid.metrics().set_index(["ood_set", "score", "model", "seed"])
    id_logits = experiment.outputs(9, 4, "test").logits
    ood_logits = experiment.outputs(9, 4, "far").logits
    detector = JointEnergy().fit(id_logits)
    scores = detector.score_samples(id_logits), detector.score_samples(ood_logits)
    row = table.loc["far", "joint_energy", "sn", 4]
    assert row.fpr95 == 100 * metrics.fpr_at_tpr(*scores)
    assert row.auroc == 100 * metrics.auroc(*scores)
    assert row.aupr == 100 * metrics.aupr(*scores)
    assert row.aupr_out == pytest.approx(100 * metrics.aupr(-scores[1], -scores[0]))


def test_estimates_are_of_the_mean_over_seeds_and_of_the_clusters(grid):
    row = ScoreRow("joint_energy", "sn", 9)
    names = {"id": "test", "near": "near", "far": "far"}
    clusters = {name: Clusters.independent(SIZES[of]) for name, of in names.items()}
    pairs = {**clusters, "id": Clusters.of([[str(i // 2)] for i in range(SIZES["test"])])}
    alone, together = (grid.estimates({"snojoe": row}, each) for each in (clusters, pairs))
    table = grid.metrics().query("score == 'joint_energy' and model == 'sn'")
    for ood_set in ("near", "far"):
        mean = table[table.ood_set == ood_set].auroc.mean()
        cell = alone[ood_set]["snojoe"]["auroc"]
        assert 100 * cell.value == pytest.approx(mean)
        assert cell.seeds == len(SEEDS)
        assert together[ood_set]["snojoe"]["auroc"].id_clusters.effective == SIZES["test"] / 2


def test_clusters_are_those_of_the_stored_images(experiment):
    for name, folder in experiment.test_sets.items():
        groups = [["a"], ["a", "b"], ["b"], []] if name == "near" else [[], []]
        rows = [ShardRow(str(i), bytes(12), None, of) for i, of in enumerate(groups)]
        target = experiment.folders.shards(folder)
        write_shards(target, rows, split=folder, content="pixels", image_size=2)
    clusters = experiment.clusters()
    assert {name: each.n for name, each in clusters.items()} == {"id": 2, "near": 4, "far": 2}
    assert clusters["id"].effective == 2
    assert clusters["near"].effective == 16 / 8


def test_an_image_of_too_many_groups_is_named_with_its_set(experiment):
    for folder in experiment.test_sets.values():
        rows = [ShardRow("x.jpg", bytes(12), None, list("abcdefghi"))]
        target = experiment.folders.shards(folder)
        write_shards(target, rows, split=folder, content="pixels", image_size=2)
    with pytest.raises(SnojoeError, match="id: an image must be of at most 8 groups"):
        experiment.clusters()


def test_noisy_images_are_read_by_the_score_they_were_made_for(experiment, few_scores):
    before = score_grid(experiment, 9)
    folder = experiment.folders.outputs(0, 4, "test")
    np.save(folder / "odin_logits.npy", np.zeros((SIZES["test"], K)))
    after = score_grid(experiment, 9)
    changed = [row for row in before.id if (before.id[row] != after.id[row]).any()]
    assert changed == [ScoreRow("odin", "control", 0)]
    assert (after.id[changed[0]][1] == 0).all()


def test_the_tuned_temperature_is_used(experiment, few_scores):
    before = score_grid(experiment, 9)
    tuning = {"odin": Tuned(eps=0.0, params={"temperature": 10.0}, fpr95=1.0)}
    write_tuning(experiment.folders.tuned(9, 0), tuning)
    assert experiment.tuning(9, 0) == tuning
    assert experiment.tuning(9, 4) == {}
    after = score_grid(experiment, 9)
    row = ScoreRow("odin", "sn", 9)
    np.testing.assert_allclose(after.id[row], before.id[row] / [[10], [1]])


def test_depths_are_rows_of_joint_energy(experiment, few_scores):
    grid = depth_grid(experiment, [9, 0, 7, 9])
    assert list(grid.id) == [DepthRow(0, 0), DepthRow(7, 10), DepthRow(9, 12)]
    scores = score_grid(experiment, 9)
    for depth, row in ((0, "control"), (9, "sn")):
        expected = scores.ood["near"][ScoreRow("joint_energy", row, depth)]
        assert (grid.ood["near"][DepthRow(depth, 12 * (depth == 9))] == expected).all()
    assert list(grid.metrics(OOD_METRICS).columns) == [
        *("ood_set", "sn_layers", "normalized_weights", "seed", "fpr95", "auroc", "aupr")
    ]


def test_the_scores_of_a_row_are_of_every_set(grid):
    row = ScoreRow("joint_energy", "sn", 9)
    scores = grid.scores(row)
    assert list(scores) == ["id", "near", "far"]
    assert (scores["id"] == grid.id[row]).all()
    assert (scores["far"] == grid.ood["far"][row]).all()


def test_the_shipped_threshold_is_measured_on_the_test_set(experiment):
    energies = np.full((2, SIZES["test"]), 3.0)
    energies[0, :6] = energies[1, :15] = 0.0
    frame = classifier_metrics(experiment, 0, energies)
    assert frame.seed.tolist() == SEEDS
    assert frame.accepted.tolist() == [80, 50]
    labels = np.ones((SIZES["test"], K), np.uint8)
    labels[:6] = 0  # they show none of the classes, and tau promises nothing for such
    for seed in SEEDS:
        np.save(experiment.folders.outputs(0, seed, "test") / "labels.npy", labels)
    frame = classifier_metrics(experiment, 0, energies)
    assert frame.accepted.tolist() == [100, pytest.approx(62.5)]


def test_an_unreadable_model_is_named(experiment):
    (experiment.folders.model(0, 0) / "config.json").write_text("{")
    with pytest.raises(SnojoeError, match=r"sn0/seed0/config.json: not readable"):
        experiment.threshold(0, 0)


def test_the_new_score_of_the_guide_is_in_every_table(tmp_path):
    """CONTRIBUTING.md's file, dropped into a copy of the package; nothing else is changed."""
    write_experiment(tmp_path)
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file, code = re.search(
        r"```python\n# (src/snojoe/detectors/\S+)\n(.+?)```", guide, re.S
    ).groups()
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / file).write_text(code, encoding="utf-8")
    program = (
        "from pathlib import Path\n"
        "from snojoe.experiment import Folders\n"
        "from snojoe.results.grids import named_scores, score_grid\n"
        "from snojoe.results.markdown import full_table2_markdown\n"
        "from snojoe.results.stored import Experiment\n"
        "from snojoe.results.tables import full_table2_sets\n"
        "e = Experiment(Folders(Path()), ['near', 'far'], [0, 4])\n"
        "table = score_grid(e, 9).metrics()\n"
        "print(*set(named_scores(table).score))\n"
        "print(full_table2_markdown(full_table2_sets(table), 2))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "logit_spread" in printed.splitlines()[0].split()
    assert printed.count("| Logit spread, control") == 2
    assert printed.count("| Logit spread, with SN") == 2
