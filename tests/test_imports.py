"""Start-up: a stage loads no library that it does not use."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import snojoe

ROOT = Path(__file__).parents[1]
CHECK = """
import sys

def loaded(*libraries):
    return [name for name in libraries if name in sys.modules]

import snojoe.cli, snojoe.model.energy, snojoe.support.files
import download, preprocess, train, infer_id, infer_ood
assert not loaded("torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib"), "light"
import score, ablate
assert not loaded("torch", "torchvision"), "scoring is arithmetic on arrays"
"""
CHECK_INFERENCE = """
import sys
import snojoe.inference.infer
heavy = ("matplotlib", "pandas", "scipy.stats", "sklearn", "torch._dynamo")
assert [name for name in heavy if name in sys.modules] == [], "inference without tuning"
"""


@pytest.mark.parametrize("check", [CHECK, CHECK_INFERENCE])
def test_stages_load_what_they_use_and_no_more(tmp_path, check):
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=ROOT / "stages",
        env={"PYTHONPATH": f"{ROOT / 'src'}", "PATH": "", "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", snojoe._MOVED)
def test_what_moved_is_named_with_its_new_place(name):
    with pytest.raises(ModuleNotFoundError, match=r"snojoe\.\w+ is now snojoe\.") as raised:
        importlib.import_module(f"snojoe.{name}")
    assert importlib.import_module(str(raised.value).split(" is now ")[1])
