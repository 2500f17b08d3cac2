"""What the README and docs show is what there is, and what they tell people to type works."""

import importlib.util
import pkgutil
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from committed import committed

from snojoe.cli import _parser

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
}
README = PAGES["README.md"]
TODAY = sorted(PAGES.keys() - {"CHANGELOG.md"})
RUN_AS_SHOWN = ("README.md", "CONTRIBUTING.md", "docs/pipeline.md")
PROGRAMS = ("make", "dvc", "snojoe", "python")

# What lies in the others is the reader's, or made by a run.
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
FOLDERS -= {"archives", "data", "models", "outputs", "detectors", ".dvc", ".checkpoints", ".venv"}


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def in_backticks(page):
    """What stands in backticks in running text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))


def commands_in_blocks(page):
    lines = [line for block in blocks("sh", page) for line in block.splitlines()]
    lines += re.findall(r"^\$ (.+)$", page, re.MULTILINE)
    return {line.split(" #")[0].strip() for line in lines} - {""}


def commands(page):
    """Every command of a page: in sh and console blocks, and in running text."""
    in_text = {code for code in in_backticks(page) if code.split()[0] in PROGRAMS}
    return commands_in_blocks(page) | in_text


def shown(command):
    """The lines that the README shows as a command's output, without what it leaves out."""
    (block,) = (b for b in blocks("console") if b.startswith(f"$ {command}\n"))
    return [line for line in block.splitlines()[1:] if line != "…"]


def assert_shown(command, output):
    """Whether a real output has all lines that the README shows, whatever their numbers."""
    number = r"[\d.]+( [kMG]?B)?"
    numberless = [re.sub(number, "0", line) for line in re.split(r"[\r\n]+", output)]
    missing = [s for s in shown(command) if re.sub(number, "0", s) not in numberless]
    assert missing == [], output


@pytest.mark.parametrize(
    "command", sorted({command for name in RUN_AS_SHOWN for command in commands(PAGES[name])})
)
def test_every_command_is_run_by_a_test_or_in_ci(command):
    words = [word.strip("'") for word in command.split()]
    arguments = words[1:] if words[0] == "snojoe" else words
    in_a_test = ", ".join(f'"{word}"' for word in arguments)
    tests = [p for p in (ROOT / "tests").rglob("test_*.py") if p.name != Path(__file__).name]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert command in ci or any(in_a_test in p.read_text(encoding="utf-8") for p in tests)


@pytest.mark.parametrize("page", PAGES)
def test_every_snojoe_command_in_a_block_is_one(page):
    for command in commands_in_blocks(PAGES[page]):
        before, program, arguments = command.rpartition("snojoe ")
        if program and not before.endswith("/"):  # not the end of a folder's name
            its_own, *_ = arguments.split(" >")  # the rest is the shell's
            assert _parser().parse_args(shlex.split(its_own)).call


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_and_every_script_exists(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for command in commands(PAGES[page]):
        program, *words = command.split()
        assert program != "make" or words[0] in targets, command
        assert program != "python" or (ROOT / words[0]).is_file(), command


@pytest.mark.parametrize("page", TODAY)
def test_every_path_that_is_named_exists(page):
    """A path of the repository, from its root; a pattern finds something."""
    for code in in_backticks(PAGES[page]):
        if re.fullmatch(r"(?:[\w.*-]+/)+[\w.*-]*", code):
            assert code.split("/")[0] not in FOLDERS or list(ROOT.glob(code)), code
        elif re.fullmatch(r"test_\w+\.py", code):
            assert list((ROOT / "tests").rglob(code)), code


@pytest.mark.parametrize("page", TODAY)
def test_every_name_of_the_package_exists(page):
    for code in in_backticks(PAGES[page]):
        if re.fullmatch(r"snojoe(\.\w+)+", code):
            pkgutil.resolve_name(code)


def test_the_results_are_those_that_are_committed():
    path = ROOT / ".ci" / "readme.py"
    spec = importlib.util.spec_from_file_location("readme", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme, headline = committed("README.md"), committed("metrics/headline.md")
    assert module.with_headline(readme, headline) == readme, f"run python {path}"


def test_it_is_short():
    assert len(README.splitlines()) <= 160


def test_the_diagram_has_the_stages_of_the_dag():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    diagram = README.split("```mermaid")[1].split("```")[0]
    assert set(stages) <= set(re.findall(r"\w+", diagram))


def anchors(page):
    """What a link may name behind its #: the page's headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_everything_that_is_linked_exists(page):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", PAGES[page]):
        if "://" not in link:
            path = (ROOT / page).parent / link if link else ROOT / page
            assert path.exists(), link
            assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), anchor


def test_the_example_score_is_a_score(monkeypatch):
    (code,) = (block for block in blocks("python", PAGES["CONTRIBUTING.md"]) if "class" in block)
    names = {"__name__": "logit_spread"}
    exec(code, names)
    logits = np.random.default_rng(0).normal(0, 2, (9, 5))
    detector = names["LogitSpread"]().fit(logits)
    expected = [np.mean((row - row.mean()) ** 2) ** 0.5 for row in logits]
    assert detector.score_samples(logits) == pytest.approx(expected)
    nothing, one = detector.score_samples([[-9, -9.5, -9, -8, -9], [-9, 9, -9, -9, -9]])
    assert nothing < one


def test_the_python_example_runs():
    import torch

    (code,) = (block for block in blocks("python", PAGES["docs/method.md"]) if "apply" in block)
    logits = np.random.default_rng(0).normal(0, 2, (40, 20))
    parameter = torch.nn.Parameter(torch.zeros(1))
    names = {"optimizer": torch.optim.SGD([parameter]), "val_logits": logits, "logits": logits}
    exec(code, names)
    assert set(names["detector"].predict(logits)) == {-1, 1}
