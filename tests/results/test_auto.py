"""A score that is chosen without OOD images, and what that costs."""

import numpy as np
import pandas as pd
import pytest
from conftest import model_config
from test_grids import SEEDS, write_experiment, write_set

from snojoe.data.pseudo_ood import PSEUDO_OOD, SEEN
from snojoe.detectors import DETECTORS
from snojoe.detectors.store import read_store
from snojoe.measures.metrics import fpr_at_tpr
from snojoe.results import grids
from snojoe.results.auto import auto_markdown
from snojoe.results.detector_store import score_and_keep

NAMES = ("odin", "joint_energy", "lof", "knn")


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "DETECTORS", {name: DETECTORS[name] for name in NAMES})
    return write_experiment(tmp_path)


def test_scores_are_measured_on_pseudo_ood_images(experiment):
    rng = np.random.default_rng(1)
    for seed in SEEDS:
        folder = experiment.folders.pseudo_outputs(9, seed)
        for name in ("id", *PSEUDO_OOD):
            write_set(folder / name, rng, 30, labelled=False)
    *_, choices = score_and_keep(experiment, 9)
    assert choices["control"] == [{}, {}]
    assert [set(each) for each in choices["sn"]] == 2 * [{"odin", "joint_energy", "knn"}]
    store = read_store(experiment.folders.detectors_of(9, 4))
    assert store.pseudo_fpr95 == choices["sn"][1]
    knn = store.detector("knn")
    scores = {
        name: knn.score_outputs(experiment.pseudo_outputs(9, 4, name))
        for name in ("id", *PSEUDO_OOD)
    }
    expected = np.mean([fpr_at_tpr(scores["id"], scores[name]) for name in PSEUDO_OOD])
    assert store.pseudo_fpr95["knn"] == pytest.approx(expected)


def test_without_pseudo_ood_images_there_is_no_choice(experiment):
    grid, _, choices = score_and_keep(experiment, 9)
    assert choices == {"control": [{}, {}], "sn": [{}, {}]}
    assert auto_markdown(grid.metrics(), choices).startswith("There are no pseudo-OOD images")


def test_whether_the_models_saw_such_images_is_what_they_were_trained_with(experiment):
    assert not experiment.saw_pseudo_ood(9)
    config = model_config("abc", train={"outliers": "pseudo_ood"})
    model = experiment.folders.model(9, SEEDS[0])
    (model / "config.json").write_text(config.model_dump_json())
    assert experiment.saw_pseudo_ood(9)


def test_the_table_sets_the_choice_beside_the_best():
    fpr95 = {"joint_energy": [50.0, 60.0], "knn": [30.0, 20.0], "lof": [10.0, 12.0]}
    table2 = pd.DataFrame(
        {"ood_set": "far", "model": "sn", "score": score, "seed": seed, "fpr95": value}
        for score, values in fpr95.items()
        for seed, value in enumerate(values)
    )
    by_seed = [{"joint_energy": 0.3, "knn": 0.5}, {"joint_energy": 0.6, "knn": 0.2}]
    text = auto_markdown(table2, {"control": [{}], "sn": by_seed})
    assert text.splitlines()[:3] == [
        "| OOD set      | `--score auto` | best there |  cost | JointEnergy |",
        "| ------------ | -------------: | ---------: | ----: | ----------: |",
        "| far, with SN |      KNN 25.00 |  LOF 11.00 | 14.00 |       55.00 |",
    ]
    seen = auto_markdown(table2, {"control": [{}], "sn": by_seed}, seen=True)
    assert seen == f"{text.removesuffix(chr(10))} T{SEEN[1:]}.\n"
