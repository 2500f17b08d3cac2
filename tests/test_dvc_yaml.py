"""A stage depends on all code that it can run, and on no more than its rooms."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCES = {"snojoe": ROOT / "src", "stages": ROOT}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

# What cannot change a result: how errors are worded, files are put in place, progress is shown,
# parameters are checked, the terminal is shared.
HARMLESS = {
    *("src/snojoe/__init__.py", "src/snojoe/params.py", "src/snojoe/experiment.py"),
    *(f"src/snojoe/support/{name}.py" for name in ("errors", "failures", "files", "progress")),
    *(f"src/snojoe/support/{name}.py" for name in ("text", "threads")),
    *("stages/_alone.py", "stages/_run.py"),
}


@cache
def imported(path):
    """Files that a file imports, at any depth of its code; not those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {file for name in names for file in files_of(name)}


def files_of(name):
    """The file of a module, and the packages on the way to it, which run first."""
    parts = name.split(".")
    if parts[0] != "snojoe":
        alone = ROOT / "stages" / f"{name}.py"
        return [alone] if alone.exists() else []
    paths = [ROOT / "src" / Path(*parts[:i]) for i in range(1, len(parts) + 1)]
    files = [path / "__init__.py" for path in paths] + [paths[-1].with_suffix(".py")]
    return [file for file in files if file.exists()]


def reached(stage):
    """Every file of ours that a stage can run, relative to the root."""
    seen, ahead = set(), [ROOT / f"stages/{stage}.py"]
    while ahead:
        file = ahead.pop()
        if file not in seen:
            seen.add(file)
            ahead += imported(file)
    return {file.relative_to(ROOT).as_posix() for file in seen if file.read_text().strip()}


def depends_on(stage, path):
    deps = STAGES[stage]["deps"]
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_reaches(stage):
    missing = {path for path in reached(stage) if not depends_on(stage, path)} - HARMLESS
    assert sorted(missing) == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_exists_and_is_reached(stage):
    code = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))]
    idle = [d for d in code if not any(p == d or p.startswith(f"{d}/") for p in reached(stage))]
    assert idle == []


@pytest.mark.parametrize(
    "edited",
    [
        "src/snojoe/detectors/joint_energy.py",
        "src/snojoe/results/report/page.py",
        "src/snojoe/results/tables.py",
        "src/snojoe/measures/statistics.py",
        "src/snojoe/data/voc.py",
        "src/snojoe/data/label_table.py",
        "src/snojoe/data/archives.py",
        "src/snojoe/detect/image_detector.py",
    ],
)
def test_an_edit_of_what_comes_before_or_after_trains_nothing(edited):
    assert (ROOT / edited).exists()
    assert not depends_on("train", edited)


def test_it_is_read_in_two_screens():
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 200
