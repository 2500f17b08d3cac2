"""``stages/_repro.py``: stages side by side, and stopped together. A stand-in takes DVC's place."""

import collections
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Does what the name of the stage says, and notes it.
STAND_IN = f"""#!{sys.executable} -ES
import os, signal, sys, time

def note(what):
    with open("log", "a") as file:
        file.write(f"{{stage}} {{what}}\\n")

def stop(number, _):
    stopped.append(number)
    note(signal.Signals(number).name)

stage, stopped = sys.argv[-1], []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
if stage.startswith("endless"):
    if os.fork():  # as DVC and the stage itself
        stage += "-dvc"
    note("starts")
    while not stopped:
        time.sleep(0.05)
    time.sleep(0.5)  # a second signal would be noted, too
    sys.exit(1)
note("starts")
time.sleep(0.3 if stage.startswith("long") else 0)
note("ends")
sys.exit(3 if stage.startswith("failing") else 0)
"""
RUN = """
import os
import _repro
_repro.DVC = ("dvc",)
side_by_side = _repro.SideBySide([{{}}] * {jobs})
for waits in {runs}:
    side_by_side.run(waits)
    {between}
"""


def start(folder, *runs, jobs=2, between="pass", dvc=STAND_IN):
    (folder / "bin").mkdir()
    (folder / "bin/dvc").write_text(dvc)
    (folder / "bin/dvc").chmod(0o755)
    python_path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'stages'}"
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-c", RUN.format(runs=runs, jobs=jobs, between=between)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": python_path, "PATH": path},
        text=True,
        stderr=subprocess.PIPE,
    )


def log(folder):
    path = folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(folder, lines):
    for _ in range(600):
        if len(log(folder)) >= lines:
            return
        time.sleep(0.05)
    raise AssertionError(log(folder))


def one_after_the_other(first, second):
    """What each waits for: each of the second for all of the first."""
    return {name: set() for name in first} | {name: set(first) for name in second}


@pytest.mark.parametrize("jobs", [1, 3])
def test_no_more_run_at_once_than_there_are_jobs(tmp_path, jobs):
    first = [f"long{i}" for i in range(5)]
    assert start(tmp_path, one_after_the_other(first, ["last"]), jobs=jobs).wait(60) == 0
    running, most = 0, 0
    for line in log(tmp_path):
        running += 1 if line.endswith("starts") else -1
        most = max(most, running)
    assert most == jobs
    assert sorted(log(tmp_path)[:-2]) == sorted(
        f"{s} {w}" for s in first for w in ("starts", "ends")
    )
    assert log(tmp_path)[-2:] == ["last starts", "last ends"]


def test_what_can_begin_does_not_wait_for_others_and_the_first_comes_first(tmp_path):
    waits = {"last": {"long"}, "second": {"first"}, "long": set(), "first": set(), "third": set()}
    assert start(tmp_path, waits).wait(60) == 0
    began = [line.split()[0] for line in log(tmp_path) if line.endswith("starts")]
    assert sorted(began[:2]) == ["first", "long"]
    assert began[2:] == ["second", "third", "last"]


STAGES = """
stages:
  data: {cmd: "true", outs: [data]}
  train:
    matrix: {depth: [9, 0, 8]}
    cmd: "true"
    deps: [data]
    outs: ["model${item.depth}"]
  infer:
    matrix: {depth: [9, 0, 8]}
    cmd: "true"
    deps: ["model${item.depth}"]
    outs: ["outputs${item.depth}"]
  score: {cmd: "true", deps: [outputs9, outputs0], outs: [table]}
  other: {cmd: "true", outs: [unrelated]}
"""


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's own
def test_what_changed_and_what_reads_from_it_in_the_order_in_which_it_is_to_begin(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(ROOT / "stages")
    monkeypatch.chdir(tmp_path)
    from _repro import to_be_run
    from dvc.repo import Repo

    Repo.init(no_scm=True).close()
    Path("dvc.yaml").write_text(STAGES)
    with Repo() as repo:
        monkeypatch.setattr(repo, "status", lambda: {"train@8": [], "train@9": [], "score": []})
        waits = to_be_run(repo)
        assert list(waits.items()) == [
            ("score", {"infer@9"}),
            ("infer@9", {"train@9"}),
            ("infer@8", {"train@8"}),
            ("train@9", set()),
            ("train@8", set()),
        ]
        monkeypatch.setattr(repo, "status", lambda: {"data": ["always changed"], "score": ["new"]})
        assert to_be_run(repo) == {"score": set()}


def test_a_failing_stage_is_the_last_but_for_those_beside_it(tmp_path):
    process = start(tmp_path, one_after_the_other(["failing", "long", "later"], ["next"]))
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "")  # DVC has said what is wrong
    assert sorted(log(tmp_path)) == sorted(
        f"{stage} {what}" for stage in ("failing", "long") for what in ("starts", "ends")
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_each_process_once_and_ends_all(tmp_path, number):
    process = start(tmp_path, one_after_the_other(["endless1", "endless2", "later"], ["next"]))
    wait_for(tmp_path, 4)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "stopped\n")
    names = [f"endless{i}{dvc}" for i in (1, 2) for dvc in ("", "-dvc")]
    expected = [f"{name} {what}" for name in names for what in ("starts", number.name)]
    assert collections.Counter(log(tmp_path)) == collections.Counter(expected)


def test_a_signal_when_no_stage_is_at_work_ends_it(tmp_path):
    kill = f"os.kill(os.getpid(), {signal.SIGTERM:d})"
    process = start(tmp_path, {"only": set()}, between=kill)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "stopped\n")
    assert log(tmp_path) == ["only starts", "only ends"]


def test_many_that_end_while_others_start(tmp_path):
    quick = "#!/bin/sh\necho ended >> log\n"
    process = start(tmp_path, {str(i): set() for i in range(100)}, jobs=4, dvc=quick)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert len(log(tmp_path)) == 100


def test_dvc_says_what_is_wrong_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "stages")
    from _repro import DVC

    done = subprocess.run(DVC, cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode != 0
    assert done.stderr.startswith("ERROR: you are not inside of a DVC repository")
    assert done.stdout == ""


def test_stages_share_the_visible_gpus(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "stages")
    from _repro import places_to_work

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    gpus = [place["CUDA_VISIBLE_DEVICES"] for place in places_to_work(3, threads=1)]
    assert gpus == ["2", "5", "2"]
    assert len(places_to_work(None, threads=1)) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert places_to_work(3, threads=1) == [{}, {}, {}]
