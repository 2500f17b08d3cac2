"""What the README shows is what there is, and what it tells people to type is run."""

import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = ("make", "dvc", "snojoe")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    """Every command of the README: in sh and console blocks, and in running text."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"^\$ (.+)$", README, re.MULTILINE)
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    lines += [c for c in re.findall(r"`([^`\n]+)`", prose) if c.split()[0] in PROGRAMS]
    return sorted({line.split(" #")[0].strip() for line in lines})


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


@pytest.mark.parametrize("command", commands())
def test_every_command_is_run_by_a_test_or_in_ci(command):
    words = [word.strip("'") for word in command.split()]
    arguments = words[1:] if words[0] == "snojoe" else words
    in_a_test = ", ".join(f'"{word}"' for word in arguments)
    tests = [p for p in (ROOT / "tests").rglob("test_*.py") if p.name != Path(__file__).name]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert command in ci or any(in_a_test in p.read_text(encoding="utf-8") for p in tests)


def staged(name):
    """A file as git has it, or is about to: what a run has just made does not count."""
    shown = subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode:
        pytest.skip("not a git checkout")
    return shown.stdout


def test_the_results_are_those_that_are_committed():
    path = ROOT / ".ci" / "readme.py"
    spec = importlib.util.spec_from_file_location("readme", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme, headline = staged("README.md"), staged("metrics/headline.md")
    assert module.with_headline(readme, headline) == readme, f"run python {path}"


def test_it_is_short():
    assert len(README.splitlines()) < 250


def test_the_diagram_has_the_stages_of_the_dag():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    diagram = README.split("```mermaid")[1].split("```")[0]
    assert set(stages) <= set(re.findall(r"\w+", diagram))


def test_every_file_that_is_linked_exists():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_example_score_is_a_score(monkeypatch):
    (code,) = (block for block in blocks("python") if "class NegativeEntropy" in block)
    names = {"__name__": "negative_entropy"}
    exec(code, names)
    logits = np.random.default_rng(0).normal(0, 2, (9, 5))
    p = 1 / (1 + np.exp(-logits))
    expected = (p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
    scores = names["NegativeEntropy"]().fit(logits).score_samples(logits)
    assert scores == pytest.approx(expected)


def test_the_python_example_runs():
    import torch

    (code,) = (block for block in blocks("python") if "apply_spectral_norm" in block)
    logits = np.random.default_rng(0).normal(0, 2, (40, 20))
    parameter = torch.nn.Parameter(torch.zeros(1))
    names = {"optimizer": torch.optim.SGD([parameter]), "val_logits": logits, "logits": logits}
    exec(code, names)
    assert set(names["detector"].predict(logits)) == {-1, 1}
