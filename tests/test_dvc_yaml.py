"""A stage depends on all code that it can run, and on no more than its rooms."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

# Looked for no further: what cannot change a result.
HARMLESS = {
    *("src/snojoe/__init__.py", "src/snojoe/experiment.py"),  # names of modules and files
    "src/snojoe/params.py",  # checks what DVC tracks
    *(f"src/snojoe/support/{name}.py" for name in ("errors", "failures", "text")),  # messages
    *(
        f"src/snojoe/support/{name}.py" for name in ("files", "progress", "threads")
    ),  # how, not what
    *("stages/_alone.py", "stages/_run.py"),
}
ARITHMETIC = "src/snojoe/support/arithmetic.py"  # which _run.py pins


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
    """The file of a module or package; packages on the way to it only name what is in them."""
    if not name.startswith("snojoe."):
        alone = ROOT / "stages" / f"{name}.py"
        return [alone] if alone.exists() else []
    path = ROOT / "src" / name.replace(".", "/")
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()]


def reached(stage):
    """Every file of ours that a stage can run, relative to the root."""
    seen, ahead = set(), [ROOT / f"stages/{stage}.py", ROOT / ARITHMETIC]
    while ahead:
        file = ahead.pop()
        path = file.relative_to(ROOT).as_posix()
        if path not in {*seen, *HARMLESS}:
            seen.add(path)
            ahead += imported(file)
    return {path for path in seen if (ROOT / path).read_text().strip()}


def depends_on(stage, path):
    deps = STAGES[stage]["deps"]
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_reaches(stage):
    missing = {path for path in reached(stage) if not depends_on(stage, path)}
    assert sorted(missing) == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_exists_and_is_reached(stage):
    code = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))]
    idle = [d for d in code if not any(p == d or p.startswith(f"{d}/") for p in reached(stage))]
    assert idle == []


@pytest.mark.parametrize("stage", ["score", "ablate", "report"])
def test_a_new_score_is_seen_by_what_scores(stage):
    assert "src/snojoe/detectors" in STAGES[stage]["deps"]


@pytest.mark.parametrize(
    "edited",
    [
        "src/snojoe/detectors/joint_energy.py",
        "src/snojoe/results/report/page.py",
        "src/snojoe/results/tables.py",
        "src/snojoe/measures/estimates.py",
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
