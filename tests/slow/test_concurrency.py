"""Several at once: ``make repro`` and ``dvc repro`` in one checkout, and queued experiments."""

import json
import subprocess
import time

import pytest
from test_kills import REPRO, Repro, prepared_checkout, results, temporaries

DVC = ("dvc", "repro")
CLEAR = ("is busy, it is being blocked by", "Unable to acquire lock", "is at work on the same")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    checkout = prepared_checkout(tmp_path_factory.mktemp("undisturbed"))
    checkout("dvc", "repro")
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "delay"),
    [
        *((REPRO, REPRO, delay) for delay in (0.0, 8.0, 30.0)),
        *((REPRO, DVC, 8.0), (DVC, REPRO, 8.0)),
    ],
)
def test_two_in_one_checkout(undisturbed, tmp_path, first, second, delay):
    checkout = prepared_checkout(tmp_path / "clone")
    one = Repro(checkout, tmp_path / "one.log", first)
    time.sleep(delay)
    two = Repro(checkout, tmp_path / "two.log", second)
    codes = [run.process.wait(900) for run in (one, two)]
    for run, code in zip((one, two), codes, strict=True):
        print(code, run.output().splitlines()[-1:])
        assert "Traceback" not in run.output()
        if code:
            assert any(message in run.output() for message in CLEAR), run.output()
    assert 0 in codes
    checkout(*REPRO)
    assert results(checkout.folder) == results(undisturbed.folder)
    assert temporaries(checkout.folder) == []


@pytest.mark.slow
def test_two_queued_experiments_at_once(undisturbed, tmp_path):
    checkout = prepared_checkout(tmp_path / "clone")
    for depth in (9, 8):
        checkout(
            "dvc", "exp", "run", "--queue", "--name", f"depth{depth}", "-S", f"sn_layers={depth}"
        )
    checkout("dvc", "queue", "start", "--jobs", "2")
    deadline = time.monotonic() + 900
    while "Running" in (status := checkout("dvc", "queue", "status")) or "Queued" in status:
        assert time.monotonic() < deadline, status
        time.sleep(3)
    print(status)
    assert status.count("Success") == 2, status
    shown = json.loads(checkout("dvc", "exp", "show", "--json"))
    assert "depth9" in json.dumps(shown)
    for depth in (9, 8):
        checkout("dvc", "exp", "apply", f"depth{depth}")
        checkout("dvc", "checkout", "--force")
        assert checkout.json("summary.json")["sn_layers"] == depth
        if depth == 9:
            assert results(checkout.folder) == results(undisturbed.folder)
        checkout("git", "checkout", "--quiet", "--force", ".")
    assert not list(checkout.folder.glob(".checkpoints/train/*"))
    leftover = subprocess.check_output(["git", "status", "--short"], cwd=checkout.folder, text=True)
    print(leftover)
