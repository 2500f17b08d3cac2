"""The DAG itself: ``dvc repro`` and ``dvc exp run`` in a temporary clone, on a tiny experiment."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from committed import committed
from test_readme import assert_shown

ROOT = Path(__file__).parents[1]
TINY = {
    "seeds": [0],
    "data": {"digits": {"size": 32, "train": 24, "val": 20, "test": 16, "ood": 16}},
    "train": {"epochs": 1, "batch_size": 8},
}


class Checkout:
    """A clone of the working tree, as a user has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = self._output(ROOT, "git", "ls-files", "-co", "--exclude-standard").splitlines()
        for name in files:
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        (folder / "params.yaml").write_text(committed("params.yaml"))
        self.change(TINY)
        self("git", "init", "--quiet")
        self("git", "add", "--all")
        self("git", "commit", "--quiet", "--message", "start")

    def __call__(self, *command: str, fails: bool = False, **env: str) -> str:
        """Run a command here, with more variables; returns what it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._env() | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def change(self, changes: dict) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        _merge(params, changes)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def json(self, name: str) -> dict:
        return json.loads((self.folder / "metrics" / name).read_text())

    def _output(self, folder: Path, *command: str) -> str:
        return subprocess.check_output(command, cwd=folder, text=True)

    def _env(self) -> dict[str, str]:
        identity = {
            f"GIT_{who}_{what}": "test@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        source = str(self.folder / "src")  # not what is installed: the clone's own code
        return os.environ | identity | {"PATH": path, "PYTHONPATH": source}


def _merge(tree: dict, changes: dict) -> None:
    for name, value in changes.items():
        if isinstance(value, dict):
            _merge(tree[name], value)
        else:
            tree[name] = value


def ran(output: str) -> list[str]:
    """Names of the stages that were executed."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """After one ``dvc repro``; its tests run in order and leave the default depth behind."""
    checkout = Checkout(tmp_path_factory.mktemp("clone with space"))
    checkout.first = checkout("dvc", "repro")
    return checkout


def test_repro_runs_each_stage_once_and_writes_every_result(checkout):
    assert_shown("dvc repro", checkout.first)
    stages = ran(checkout.first)
    assert sorted(stages) == sorted(
        ["download", "preprocess", "score", "ablate", "report"]
        + [f"train@{depth}-0" for depth in (0, 7, 8, 9)]
        + [f"infer_{kind}@{depth}" for kind in ("id", "ood") for depth in (0, 7, 8, 9)]
    )
    for name in (
        *("histograms.png", "roc.png", "pr.png", "training.png", "ablation.png"),
        *("roc.csv", "pr.csv", "training.csv", "ablation.csv"),
    ):
        assert (checkout.folder / "plots" / name).stat().st_size > 100
    assert (checkout.folder / "report.html").stat().st_size > 100_000
    leftovers = [p for p in checkout.folder.rglob("*.tmp") if ".dvc" not in p.parts]
    assert leftovers == []
    assert not list((checkout.folder / ".checkpoints").rglob("*.pt"))


def test_the_results_have_their_documented_shape(checkout):
    summary = checkout.json("summary.json")
    assert summary["sn_layers"] == 9
    assert summary["normalized_weights"] == 12
    numbers = [
        v
        for value in summary.values()
        for v in (value.values() if isinstance(value, dict) else [value])
    ]
    assert len(numbers) <= 12
    scores = checkout.json("scores.json")
    assert {"map", "map_control", "accepted"} <= set(scores["id"])
    paper = {
        *("max_logit", "msp", "odin", "mahalanobis", "lof", "isolation_forest"),
        *("joint_energy", "snojoe"),
    }
    for ood_set in ("novel_digits", "textures"):
        assert paper <= set(scores[ood_set])
        assert set(scores[ood_set]["snojoe"]) == {"fpr95", "auroc", "aupr"}
        assert set(checkout.json("ablation.json")[ood_set]) == {"0", "7", "8", "9"}
        # The protocol chose T = 1 and eps = 0 for ODIN: it then ranks exactly as MaxLogit.
        assert scores[ood_set]["odin"] == scores[ood_set]["max_logit"]
    table2 = pd.read_csv(checkout.folder / "metrics/table2.csv")
    assert set(table2.model) == {"control", "sn"}
    assert table2.duplicated(["ood_set", "score", "model", "seed"]).sum() == 0


def test_the_new_models_are_a_detector(checkout):
    with tarfile.open(checkout.folder / "data/raw/textures.tar") as tar:
        tar.extractall(checkout.folder / "textures", filter="data")
    some_out = checkout("snojoe", "detect", "textures", "--accept", "0.0001", fails=True)
    assert re.search(r"^16 images: .*\b\d+ out-of-distribution", some_out, re.MULTILINE)
    checkout("snojoe", "export", "--onnx", "detector.onnx")
    assert (checkout.folder / "detector.onnx").stat().st_size > 1e6
    for name in ("textures", "detector.onnx"):
        path = checkout.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_depths_8_and_9_are_one_model(checkout):
    table3 = pd.read_csv(checkout.folder / "metrics/table3.csv").set_index("sn_layers")
    metrics = ["ood_set", "normalized_weights", "fpr95", "auroc", "aupr"]
    assert table3.loc[8, metrics].to_numpy().tolist() == table3.loc[9, metrics].to_numpy().tolist()
    assert table3.loc[7, metrics].to_numpy().tolist() != table3.loc[9, metrics].to_numpy().tolist()
    assert "9 (12 weights, those of 8)" in (checkout.folder / "metrics/table3.md").read_text()
    models = [checkout.folder / f"models/sn{depth}/seed0/model.safetensors" for depth in (8, 9)]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_a_second_repro_does_nothing(checkout):
    assert ran(checkout("dvc", "repro")) == []
    assert "up to date" in checkout("dvc", "status")


def test_sn_layers_8_trains_nothing_and_changes_no_metric(checkout):
    checkout("git", "add", "--all")
    checkout("git", "commit", "--quiet", "--message", "results")
    output = checkout("dvc", "exp", "run", "-S", "sn_layers=8")
    assert ran(output) == ["score", "report"]
    assert_shown("dvc exp run -S sn_layers=8", output)
    assert_shown("dvc metrics diff", checkout("dvc", "metrics", "diff"))
    (differences,) = json.loads(checkout("dvc", "metrics", "diff", "--json")).values()
    assert set(differences) == {"sn_layers"}
    assert differences["sn_layers"] == {"old": 9, "new": 8, "diff": -1}


def test_sn_layers_5_trains_that_depth_alone(checkout):
    stages = ran(checkout("dvc", "exp", "run", "-S", "sn_layers=5"))
    assert set(stages) == {"train@5-0", "infer_id@5", "infer_ood@5", "score", "report"}


def test_the_plots_of_two_experiments_overlay(checkout):
    plots = json.loads(checkout("dvc", "plots", "diff", "HEAD", "--json"))["data"]
    assert len(plots) == 6
    for name, (plot,) in plots.items():
        content = plot["content"]
        spec = content.get("spec", content)
        x, color = spec["encoding"]["x"], spec["encoding"]["color"]["field"]
        assert x["title"]
        assert color == "rev"
        points = content["data"]["values"]
        assert {point["rev"] for point in points} == {"workspace", "HEAD"}
        # One line for each revision, model and OOD set: no two points share a place on it.
        keys = ("rev", "ood_set", "model", x["field"])
        places = [tuple(point.get(key) for key in keys) for point in points]
        assert len(set(places)) == len(places), name
        assert not re.search("<DVC_METRIC_(?!PLOT)", json.dumps(content))


def test_the_table_of_experiments_is_readable(checkout):
    command = ("dvc", "exp", "show", "--only-changed", "--drop", "/")
    header = checkout(*command, "--csv").splitlines()[0].split(",")
    assert "params.yaml:sn_layers" in header
    assert "novel_digits.auroc" in header
    assert len(header) <= 4 + 12 + 1 + 2  # who and when, metrics, the parameter, two folders


def test_going_back_restores_from_the_cache(checkout):
    # Nothing is trained or inferred; score writes git-tracked files, which DVC does not cache.
    assert ran(checkout("dvc", "exp", "run", "-S", "sn_layers=9")) == ["score"]
    assert checkout.json("summary.json")["sn_layers"] == 9
    assert json.loads(checkout("dvc", "metrics", "diff", "--json")) == {}


def test_the_same_seed_gives_the_same_digits(checkout, tmp_path):
    before = {p.name: p.read_bytes() for p in (checkout.folder / "metrics").iterdir()}
    model = checkout.folder / "models/sn9/seed0/model.safetensors"
    weights = model.read_bytes()
    for stage in ("train@9-0", "infer_id@9", "infer_ood@9", "score", "ablate"):
        again = ("dvc", "repro", "--force", "--single-item", "--no-run-cache", stage)
        checkout(*again, OMP_NUM_THREADS="3", MKL_CBWR="AVX2", PYTHONHASHSEED="1")
    assert model.read_bytes() == weights
    assert {p.name: p.read_bytes() for p in (checkout.folder / "metrics").iterdir()} == before


def test_results_of_native_arithmetic_are_kept_apart(checkout):
    checkout.change({"arithmetic": "native"})
    status = json.loads(checkout("dvc", "status", "--json"))
    checkout("git", "checkout", "--quiet", "params.yaml")
    every = yaml.safe_load((checkout.folder / "dvc.yaml").read_text())["stages"]
    assert {stage.split("@")[0] for stage in status} == every.keys()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sn_layers=eleven", "sn_layers: input should be a valid integer; got 'eleven'"),
        ("sn_layers=-1", "sn_layers: input should be greater than or equal to 0; got -1"),
        ("sn_layers=99", "sn_layers: expected 0 to 10 for resnet10; got 99"),
    ],
)
def test_a_wrong_depth_ends_in_a_clear_message(checkout, setting, message):
    output = checkout("dvc", "exp", "run", "-S", setting, fails=True)
    checkout("git", "checkout", "--quiet", "params.yaml")
    assert message in output
    assert "Traceback" not in output


def test_a_misspelt_parameter_is_refused(checkout):
    output = checkout("dvc", "exp", "run", "-S", "sn_layer=8", fails=True)
    assert "sn_layer" in output
