"""One training, and one inference, by two processes on a CPU."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from test_kills import prepared_checkout, stage_processes
from test_pipeline import Checkout

TORCHRUN = ["torchrun", "--standalone", "--nproc_per_node", "2"]
# Its --multi_gpu is torchrun, and takes CPUs where there is no GPU; its --cpu would need MPI.
ACCELERATE = ["accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]
TRAIN = ["stages/train.py", "--sn-layers", "9", "--seed", "0"]
DATA = {"digits": {"size": 32, "train": 160, "val": 60, "test": 16, "ood": 16}}
MODEL = "models/sn9/seed0"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    checkout = prepared_checkout(tmp_path_factory.mktemp("processes"))
    checkout.change({"data": DATA, "train": {"epochs": 8, "batch_size": 32}})
    checkout("dvc", "repro", "preprocess")
    return checkout


def train(checkout, launcher, wait=True, **env):
    process = subprocess.Popen(
        [*launcher, *TRAIN],
        cwd=checkout.folder,
        env=checkout._env() | {"OMP_NUM_THREADS": "1"} | env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if not wait:
        return process
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    history = pd.read_csv(checkout.folder / MODEL / "history.csv")
    shutil.rmtree(checkout.folder / "models")
    return history, output


@pytest.mark.slow
def test_two_processes_train_to_the_loss_curve_of_one(checkout):
    """Frozen BatchNorm: a CPU has no statistics over processes, which live BatchNorm would need.

    In float64, since sums in another order differ in their last digits, which Adam's steps magnify:
    it divides a gradient by its own size.
    """
    checkout.change({"train": {"freeze_after_epoch": 0}})
    launchers = {"one": [sys.executable], "torchrun": TORCHRUN, "accelerate": ACCELERATE}
    single = {name: train(checkout, launcher)[0] for name, launcher in launchers.items()}
    for name in (
        "model/pixels.py",
        "training/loader.py",
        "training/loop.py",
        "training/validation.py",
    ):
        path = checkout.folder / "src/snojoe" / name
        text = path.read_text()
        assert ".float()" in text
        path.write_text(text.replace(".float()", ".double()"))
    stage = checkout.folder / "stages/train.py"
    text = stage.read_text()
    start = "    from snojoe.training.run import"
    assert start in text
    first = "    import torch\n    torch.set_default_dtype(torch.float64)\n"
    stage.write_text(text.replace(start, first + start))
    double = {}
    for name, launcher in launchers.items():
        double[name], output = train(checkout, launcher)
        assert output.count("epoch 8/8") == 1, output
        assert "Warning" not in output
    checkout("git", "checkout", "--quiet", "src", "stages")
    for name in ("torchrun", "accelerate"):
        for histories in (single, double):
            print(name, np.abs(histories[name] / histories["one"] - 1).max().to_dict())
        np.testing.assert_allclose(double[name], double["one"], rtol=1e-9)
    assert not list(checkout.folder.rglob("*.tmp"))
    assert not list((checkout.folder / ".checkpoints/train").iterdir())


@pytest.mark.slow
def test_they_share_outliers_as_labelled_images(checkout):
    checkout.change({"train": {"freeze_after_epoch": 0, "epochs": 2, "outliers": "pseudo_ood"}})
    one, _ = train(checkout, [sys.executable])
    two, _ = train(checkout, TORCHRUN)
    checkout.change({"train": {"epochs": 8, "outliers": None}})
    losses = ["train_loss", "val_loss"]  # mAP is one of ranks, which a last digit can change
    np.testing.assert_allclose(two[losses], one[losses], rtol=1e-4)


@pytest.mark.slow
def test_the_death_of_one_ends_all_and_the_rest_goes_on(checkout):
    checkout.change({"train": {"freeze_after_epoch": 3}})
    undisturbed, _ = train(checkout, TORCHRUN)
    process = train(checkout, TORCHRUN, wait=False)
    checkpoints = checkout.folder / ".checkpoints/train"
    while not list(checkpoints.glob("*.pt")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    children = stage_processes(psutil.Process(process.pid).children(recursive=True))
    ranks = {p.pid: p.environ()["RANK"] for p in children if "RANK" in p.environ()}
    os.kill(next(pid for pid, rank in ranks.items() if rank == "1"), signal.SIGKILL)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=120)
    print(f"ended after {time.monotonic() - begun:.0f} s\n{output}")
    assert process.returncode != 0
    assert "another process of this run ended" in output
    assert not (checkout.folder / MODEL).exists()
    assert not [p for p in stage_processes(psutil.process_iter()) if p.pid in ranks]
    resumed, output = train(checkout, TORCHRUN)
    assert "resuming after epoch" in output
    pd.testing.assert_frame_equal(resumed, undisturbed)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(checkout):
    checkout.change({"train": {"batch_size": 33}})
    process = train(checkout, TORCHRUN, wait=False)
    output, _ = process.communicate(timeout=120)
    checkout.change({"train": {"batch_size": 32}})
    assert process.returncode != 0
    assert "train.batch_size: expected a multiple of the 2 processes; got 33" in output


@pytest.mark.slow
def test_two_processes_infer_each_image_once(tmp_path):
    checkout: Checkout = prepared_checkout(tmp_path / "clone")
    checkout("dvc", "repro", "infer_id@9")
    folder = checkout.folder / "outputs/sn9/id"
    expected = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.npy")}
    stage = ["stages/infer_id.py", "--sn-layers", "9"]
    for launcher in (TORCHRUN, ACCELERATE):
        shutil.rmtree(folder, ignore_errors=True)
        output = checkout(*launcher, *stage)
        assert {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.npy")} == expected
        assert output.count("train: 24 images") == 1
    ids = np.load(folder / "seed0/train/ids.npy")
    assert len(set(ids)) == len(ids) == 24
