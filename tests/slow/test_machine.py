"""Every stage on a full disk and on one that is read-only. Needs the right to mount."""

import contextlib
import re
import shutil
import subprocess
import sys

import pytest
from test_kills import SMALL
from test_pipeline import Checkout

# stage, options, folder with its outputs, one of these
STAGES = {
    "download": ([], "data", "data/raw"),
    "preprocess": ([], "data", "data/prepared"),
    "train": (["--sn-layers", "9", "--seed", "0"], "models", "models/sn9/seed0"),
    "infer_id": (["--sn-layers", "9"], "outputs", "outputs/sn9/id"),
    "infer_ood": (["--sn-layers", "9"], "outputs", "outputs/sn9/ood"),
    "score": ([], "metrics", "metrics/scores.json"),
    "ablate": ([], "metrics", "metrics/ablation.json"),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    checkout = Checkout(tmp_path_factory.mktemp("machine"))
    checkout.change(SMALL)
    checkout("dvc", "repro")
    return checkout


@contextlib.contextmanager
def mounted(folder, *commands):
    """Mount by the first command, change by the others; unmounted in the end."""
    for command in commands:
        done = subprocess.run(["mount", *command, folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def run(checkout, stage):
    return subprocess.run(
        [sys.executable, f"stages/{stage}.py", *STAGES[stage][0]],
        cwd=checkout.folder,
        env=checkout._env(),
        text=True,
        capture_output=True,
    )


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_named_and_the_same_command_goes_on(checkout, stage):
    _, top, output = STAGES[stage]
    folder = checkout.folder / top
    undisturbed = content(folder)
    backup = folder.with_name("backup")
    shutil.copytree(folder, backup)
    for path in backup.iterdir() if top == "metrics" else [backup / output.partition("/")[2]]:
        remove(path)
    before = content(backup)
    used = subprocess.check_output(["du", "-sk", backup], text=True).split()[0]
    size = f"size={int(used) + 4}k"
    try:
        with mounted(folder, ["-t", "tmpfs", "-o", size, "tmpfs"]):
            shutil.copytree(backup, folder, dirs_exist_ok=True)
            done = run(checkout, stage)
            print(done.stderr.strip())
            assert done.returncode == 1, done.stdout
            assert re.fullmatch(
                f"error: {top}/.*: cannot be written: No space left on device\n", done.stderr
            )
            assert not list(folder.rglob(".*.tmp"))
            if top != "metrics":  # these are written one by one
                assert content(folder) == before
        remove(checkout.folder / output)
        assert run(checkout, stage).returncode == 0
        found = content(folder)
        assert undisturbed == undisturbed | found
        assert top == "metrics" or len(found) == len(undisturbed)
    finally:
        shutil.rmtree(backup)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_folder_is_named(checkout, stage):
    _, top, output = STAGES[stage]
    folder = checkout.folder / top
    remove(folder / output.partition("/")[2])
    with mounted(folder, ["--bind", str(folder)], ["-o", "remount,ro,bind"]):
        done = run(checkout, stage)
    print(done.stderr.strip())
    assert done.returncode == 1
    assert re.fullmatch(f"error: {top}/.*: cannot be written: Read-only file system\n", done.stderr)
    assert run(checkout, stage).returncode == 0
