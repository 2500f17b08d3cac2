"""A project of one's own from the first ``dvc repro`` to an experiment, on a tiny set."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_folder
from test_init import others, pets
from test_pipeline import Checkout, ran

from snojoe_project.parameters import put

STAGES = ["download", "preprocess", "train@0-0", "infer_id@0", "infer_ood@0", "score"]
SNOJOE = [sys.executable, "-c", "from snojoe.cli import main; raise SystemExit(main())"]
ROOT = Path(__file__).parents[1]


class Project(Checkout):
    """What ``snojoe init`` makes; its package is a copy, which tests may edit."""

    def __init__(self, folder):
        self.folder = folder / "project"
        self.site = folder / "site"
        self.folder.mkdir()
        for name in ("src", "stages", "dvc.yaml", "params.yaml", ".dvc/config", ".dvc/plots"):
            self._copy(name)
        for name in (".gitignore", ".dvcignore"):
            self._copy(name)
        write_folder(folder / "pets", pets())
        write_folder(folder / "others", others(8))
        self(*SNOJOE, "init", "--id", "../pets", "--ood", "../others")
        self.set("train.epochs", 1)
        self("git", "commit", "--quiet", "--all", "--message", "tiny")

    def _copy(self, name):
        target = self.site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", ROOT / name, target], check=True)

    def set(self, name, value):
        path = self.folder / "params.yaml"
        path.write_text(put(path.read_text(), name, value))

    def _env(self):
        return super()._env() | {"PYTHONPATH": str(self.site / "src")}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """After one ``dvc repro``; its tests run in order."""
    project = Project(tmp_path_factory.mktemp("my photos"))
    project.first = project("dvc", "repro")
    project("git", "add", "--all")
    project("git", "commit", "--quiet", "--message", "results")
    return project


def test_repro_runs_each_stage_once_and_makes_the_page(project):
    assert sorted(ran(project.first)) == sorted(["code", *STAGES, "report"])
    assert project.json("summary.json")["sn_layers"] == 0
    page = (project.folder / "report.html").read_text()
    assert len(page) > 100_000
    assert "With SN" not in page
    assert "with SN" not in page
    assert "depth of SN" not in page
    assert project("git", "status", "--porcelain") == ""


def test_the_one_network_detects(project):
    for score in ("joint_energy", "auto"):
        said = project("sh", "-c", f"snojoe detect ../others --score {score} || true")
        assert "1 model; " in said
        assert re.search(r"of 6 test images, caught [\d.]+% of others\n", said)
        assert re.search(r"^8 images: ", said, re.MULTILINE)


def test_the_report_says_of_the_detector_what_detect_says(project):
    said = project("sh", "-c", "snojoe detect ../others || true")
    accepted, ends, caught = re.search(
        r"accepted ([\d.]+)% (\[.+?\]) of 6 test images, caught ([\d.]+)% of others\n", said
    ).groups()
    page = (project.folder / "report.html").read_text()
    low, high = (100 - float(end) for end in ends.strip("[]").split(", "))
    assert f"<strong>{100 - float(accepted):.1f}%</strong> false alarms" in page
    assert f"[{high:.1f}, {low:.1f}] of 6 in-distribution" in page
    assert f"<strong>{caught}%</strong> of others caught" in page
    assert f"It refuses {100 - float(accepted):.1f}% " in project.first


def test_side_by_side_has_nothing_left_to_do(project):
    assert project(*SNOJOE, "repro", "--jobs", "2") == ""
    assert project("git", "status", "--porcelain") == ""


def test_an_edit_of_a_table_trains_nothing(project):
    path = project.site / "src/snojoe/results/markdown.py"
    path.write_text(path.read_text() + "# edited\n")
    assert set(ran(project("dvc", "repro"))) == {"code", "score", "report"}
    assert "snojoe/results/markdown.py" in project("git", "diff", "code/score")
    assert project("git", "diff", "code/train") == ""


def test_an_experiment_changes_what_it_should(project):
    project("dvc", "exp", "run", "-S", "data.image_size=16", "preprocess")
    changed = project("git", "diff", "-U0", "params.yaml").splitlines()
    assert [line for line in changed if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "-  image_size: 32",
        "+  image_size: 16",
    ]


def test_a_network_with_sn_is_trained_beside_and_compared(project):
    """In a project for one: no other file than params.yaml is touched for it."""
    project("git", "checkout", "--quiet", ".")
    project("dvc", "checkout", "--quiet")
    output = project("dvc", "exp", "run", "-S", "sn_layers=9")
    assert set(ran(output)) == {"train@9-0", "infer_id@9", "infer_ood@9", "score", "report"} | {
        "code"
    }
    assert "fpr95_control" in project.json("summary.json")["others"]
    assert "Did spectral normalisation help?" in (project.folder / "report.html").read_text()
    changed = json.loads(project("dvc", "metrics", "diff", "--json"))["metrics/summary.json"]
    assert changed["sn_layers"] == {"old": 0, "new": 9, "diff": 9}


def test_a_depth_that_the_dag_does_not_list_ends_in_a_clear_message(project):
    setting = "ablation.sn_layers=[0,5]"
    output = project("dvc", "exp", "run", "-S", setting, fails=True)
    assert "expected as many depths as dvc.yaml has, 1; got [0, 5]: `snojoe dag`" in output
    project(*SNOJOE, "dag")
    assert "ablate" in project("dvc", "stage", "list", "--name-only")
