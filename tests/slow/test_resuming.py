"""A training that was killed goes on to the same weights, and only where nothing was changed."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from test_kills import prepared_checkout

TRAIN = [sys.executable, "stages/train.py", "--sn-layers", "9", "--seed", "0"]


def replace(path, old, new):
    def edit(checkout):
        file = checkout.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return edit


def model_files(folder):
    return {path.name: path.read_bytes() for path in (folder / "models/sn9/seed0").iterdir()}


EDITS = {
    "nothing": lambda checkout: None,
    "train.lr": lambda checkout: checkout.change({"train": {"lr": 0.001}}),
    "train.epochs": lambda checkout: checkout.change({"train": {"epochs": 13}}),
    "spectral_norm": lambda checkout: checkout.change({"spectral_norm": {"bound": "soft"}}),
    "the loop": replace(
        "src/snojoe/training/optimizer.py", "betas=(0.9, 0.999)", "betas=(0.8, 0.999)"
    ),
    "the normalisation": replace("src/snojoe/model/preprocessing.py", "0.485", "0.5"),
    "the seed": replace("src/snojoe/training/run.py", "manual_seed(seed)", "manual_seed(seed + 1)"),
    "the stage": replace("stages/train.py", "seed, FOLDERS", "seed + 1 - 1, FOLDERS"),
    "the data": lambda checkout: (
        checkout.change({"data": {"digits": {"seed": 1}}}),
        checkout("dvc", "repro", "preprocess"),
    ),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """After a training that was killed when it had written a checkpoint."""
    checkout = prepared_checkout(tmp_path_factory.mktemp("resuming"))
    checkout.change({"train": {"epochs": 12}})
    checkout("dvc", "repro", "preprocess")
    process = subprocess.Popen(
        TRAIN, cwd=checkout.folder, env=checkout._env(), stdout=subprocess.PIPE
    )
    while not list(checkout.folder.glob(".checkpoints/train/*.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert not (checkout.folder / "models/sn9").exists()
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize("edited", EDITS)
def test_only_an_unchanged_training_resumes(killed, edited, tmp_path):
    shutil.copytree(killed.folder, tmp_path / "clone", symlinks=True)
    checkout = object.__new__(type(killed))
    checkout.folder = tmp_path / "clone"
    EDITS[edited](checkout)
    resumed = "resuming after epoch" in checkout(*TRAIN)
    assert resumed == (edited == "nothing")
    found = model_files(checkout.folder)
    shutil.rmtree(checkout.folder / "models")
    shutil.rmtree(checkout.folder / ".checkpoints")
    assert "resuming" not in checkout(*TRAIN)
    assert model_files(checkout.folder) == found
