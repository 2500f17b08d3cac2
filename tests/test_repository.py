"""What lies around the package agrees with it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

import snojoe

DVC = Path(sys.executable).parent / "dvc"
ROOT = Path(__file__).parents[1]
LITTER = (".knn.py.swp", "knn.py~", ".#knn.py", "#knn.py#", "knn.py.orig", ".DS_Store", "Thumbs.db")
FOLDERS = (".idea/workspace.xml", ".vscode/settings.json", ".ipynb_checkpoints/a.ipynb")


def loaded(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version():
    assert str(loaded("CITATION.cff")["version"]) == snojoe.__version__


def test_the_changelog_has_this_version():
    titles = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert snojoe.__version__ in titles


def test_the_hooks_are_make_check():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^check: install\n((?:\t.+\n)+)", makefile, re.M)[1].split("\n\t")
    (local,) = loaded(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == [line.strip() for line in recipe]


def test_the_workflow_calls_ci():
    (job,) = loaded(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]


def test_a_stray_file_in_a_folder_of_a_stage_reruns_nothing(tmp_path):
    """What DVC ignores is not part of a dependency's hash."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run([DVC, "init", "--quiet"], cwd=tmp_path, check=True)
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    names = [f"src/snojoe/detectors/{name}" for name in (*LITTER, *FOLDERS, "knn.py")]
    ignored = subprocess.run(
        [DVC, "check-ignore", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert ignored == names[:-1]
