"""requirements-detect.txt holds what detection imports, and no more."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from committed import committed
from conftest import jpeg, model_folder, write_folder
from test_scores import write_detectors

from snojoe.cli import main
from snojoe.experiment import Folders

ROOT = Path(__file__).parents[2]
SLIM = "requirements-detect.txt"

# argv: allowed distributions as JSON, then the command lines, each as JSON.
ALONE = """
import json, re, sys
from importlib.metadata import packages_distributions

def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()

allowed, *commands = map(json.loads, sys.argv[1:])
owners = {
    module: {canonical(name) for name in names}
    for module, names in packages_distributions().items()
}

class Filtered:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        others = owners.get(name.partition(".")[0])
        if others and not others & {"snojoe", *allowed}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Filtered, sys.meta_path)
from snojoe.cli import main

for command in commands:
    print(f"exit status {main(command)}", flush=True)
used = {owner for module in sys.modules for owner in owners.get(module.partition(".")[0], ())}
print(json.dumps(sorted(used)))
"""


TIME = re.compile(r'"time": "[^"]*"')


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = loaded(ROOT / ".ci/requirements_detect.py")


def pinned(name):
    return dict.fromkeys(
        re.findall(r"^([\w.-]+)==", (ROOT / name).read_text(encoding="utf-8"), re.M)
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    folders = Folders(root)
    for seed in (0, 1, 2):
        model_folder(folders.model(9, seed), seed)
        write_detectors(folders.model(9, seed), folders.detectors_of(9, seed), 0.4)
    (root / "params.yaml").write_text(committed("params.yaml"), encoding="utf-8")
    model_folder(root / "shipped")
    write_folder(root / "photos", {f"{i}.jpg": jpeg(i) for i in range(30)})
    return root


def alone(project, allowed, commands):
    """What commands print where only some distributions can be imported, and which were."""
    arguments = map(json.dumps, [[*allowed], *commands])
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *printed, used = done.stdout.splitlines()
    return printed, {*json.loads(used)}


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch's needs are listed for Linux")
def test_the_list_is_made_of_requirements_txt():
    expected = SCRIPT.slim((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert (ROOT / SLIM).read_text(encoding="utf-8") == expected, f"run python {SCRIPT.__file__}"


def test_what_the_guide_leaves_out_for_cpus_is_cuda_alone():
    page = (ROOT / "docs/detector.md").read_text(encoding="utf-8")
    command = re.search(r"^sed .+(?= > cpu\.txt$)", page, re.M)[0]
    left = subprocess.check_output(shlex.split(command), cwd=ROOT, text=True)
    gone = pinned(SLIM).keys() - {*re.findall(r"^([\w.-]+)==", left, re.M)}
    assert (
        gone == {name for name in pinned(SLIM) if re.match("cuda-|nvidia-|triton", name)} != set()
    )


def test_all_of_detection_works_with_the_list_alone_and_says_the_same(project, monkeypatch, capsys):
    commands = [
        ["detect", "photos", "--format", "csv"],
        ["detect", "photos", "--model", "models/sn9/seed0", "--fdr", "0.5"],
        [
            "detect",
            "photos",
            "--score",
            "vim",
            "--accept",
            "0.9",
            "--confidence",
            "0.8",
            "--format",
            "csv",
        ],
        ["detect", "photos", "--score", "knn", "--format", "json", "--html", "page.html"],
        ["layers", "resnet18"],
        ["calibrate", "shipped", "photos", "--hold-out", "0.2"],
    ]
    printed, used = alone(project, pinned(SLIM), commands)
    monkeypatch.chdir(project)
    statuses = []
    for command in commands:
        statuses.append(main(command))
        print(f"exit status {statuses[-1]}")
    same = capsys.readouterr().out.splitlines()
    assert [TIME.sub("", line) for line in printed] == [TIME.sub("", line) for line in same]
    assert statuses[-1] == 0
    assert {*statuses} <= {0, 1}

    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = {re.match(r"[\w-]+", line)[0] for line in table["dependencies"]}
    assert {*SCRIPT.IMPORTED} == own & used
