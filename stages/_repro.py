"""``make repro``: the stages that DVC would run one after the other, side by side.

DVC decides what is to be run and runs it: each stage is a ``dvc repro --single-item`` as soon as
those that it reads from are done, as many at a time as there are cores, or GPUs. A plain
``dvc repro`` comes last and finds nothing to do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from _alone import alone

from snojoe.params import load_params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import remove_all_abandoned

PATIENCE_S = 2.0  # that a living DVC may need to write its file
ORPHANS_S = 15.0  # that the stages of a killed run may need to stop, see _alone.py
# As with --quiet, which would hide errors, too.
QUIETLY = """
import logging, sys
from dvc.cli import main
from dvc.logger import set_loggers_level
from dvc.ui import ui
ui.enable = lambda: None
del sys.argv[0]
with set_loggers_level(logging.ERROR):
    sys.exit(main())
"""
DVC = (sys.executable, "-c", QUIETLY, "dvc", "--wait-for-lock", "repro")
WRITTEN = ("data", "models", "outputs", "detectors", "metrics", "plots")

Waits = Mapping[str, set[str]]
"""Stage -> the stages that it waits for; among those that can begin the first one does."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("jobs", nargs="?", type=int, help="stages at a time")
    jobs = parser.parse_args().jobs
    if jobs is not None and jobs < 1:
        parser.error(f"JOBS: expected at least 1; got {jobs}")
    mend()
    try:
        side_by_side = SideBySide(places_to_work(jobs, load_params().train.threads))
        with alone("repro"):  # two would take stages from one another, and both fail
            side_by_side.run(ask_dvc())
            os.execv(DVC[0], DVC)
    except SnojoeError as error:
        sys.exit(f"error: {error}")


def places_to_work(jobs: int | None, threads: int) -> list[dict[str, str]]:
    """For each stage at a time, what its environment has more than ours: its GPU, if there are."""
    gpus = visible_gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = jobs or len(gpus) or max(1, (cores or 1) // threads)
    return [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(jobs)]


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name; PyTorch would take two seconds to say."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], check=False, capture_output=True, text=True)
    return [str(i) for i, _ in enumerate(filter(None, listed.stdout.splitlines()))]


def ask_dvc() -> Waits:
    """`to_be_run`. DVC does not answer while the stages of a killed run are still at work."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    end = time.monotonic() + ORPHANS_S
    while True:
        try:
            with Repo() as repo, lock_repo(repo):
                return to_be_run(repo)
        except DvcException as error:
            if not isinstance(error, LockError) or time.monotonic() > end:
                sys.exit(f"error: {error}")
        time.sleep(1)


def to_be_run(repo: Any) -> Waits:
    """The stages that changed, and all that read from them: whether these changed, DVC then says.

    The furthest from the start comes first, and of those as far the first in dvc.yaml: the main
    depth and the control, which `score` waits for. Of depths that are one and the same (8 and 9)
    the second comes when the first is done and there to be copied.

    What runs each time and did not change (a project's ``code``) is left to the last ``dvc repro``.
    """
    import networkx

    reads_from = repo.index.graph
    changed = {name for name, how in repo.status().items() if how != ["always changed"]}
    stages: list[Any] = []  # generations from the last to the first, each as in dvc.yaml
    concerned: set[Any] = set()
    for generation in networkx.topological_generations(reads_from.reverse()):
        of_it = [stage for stage in repo.index.stages if stage in generation]
        concerned |= {
            stage
            for stage in of_it
            if stage.addressing in changed or not concerned.isdisjoint(reads_from[stage])
        }
        stages = [stage for stage in of_it if stage in concerned] + stages
    return {
        stage.addressing: {each.addressing for each in concerned.intersection(reads_from[stage])}
        for stage in stages
    }


class SideBySide:
    """Runs stages, each with its DVC in a session of its own: signals reach them from here alone.

    If this process is killed, its stages find out (``_alone``). A signal that comes when none is at
    work ends it at once.
    """

    def __init__(self, places: Sequence[dict[str, str]]) -> None:
        self.free = list(places)
        self.running: dict[int, tuple[str, subprocess.Popen[bytes], dict[str, str]]] = {}
        self.status = 0
        self.at_work = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def run(self, waits: Waits) -> None:
        """Run all and wait for them; end this process where one fails, after those beside it."""
        waiting = {stage: set(others) for stage, others in waits.items()}
        self.at_work = True
        while True:
            while self.free and not self.status and (stage := _first_without(waiting)):
                del waiting[stage]
                self._start(stage, self.free.pop(0))
            if not self.running:
                break
            done = self._wait()
            for others in waiting.values():
                others.discard(done)
        self.at_work = False
        if self.status:
            sys.exit("stopped" if self.status < 0 else 1)

    def _wait(self) -> str:
        """Wait until a stage has ended; which."""
        number, status = os.wait()
        stage, process, place = self.running.pop(number)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.free.append(place)
        self.status = self.status or process.returncode
        return stage

    def _start(self, stage: str, place: dict[str, str]) -> None:
        process = subprocess.Popen(
            [*DVC, "--single-item", stage],
            env={**os.environ, **place, "SNOJOE_REPRO": str(os.getpid())},
            start_new_session=True,
        )
        self.running[process.pid] = stage, process, place  # the next Popen() reaps dropped ones
        if self.status < 0:  # the signal came too early for this one
            os.killpg(process.pid, -self.status)

    def _stop(self, number: int, _: Any) -> None:
        self.status = self.status or -number
        if not self.at_work:
            sys.exit("stopped")
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(process, number)


def _first_without(waiting: Waits) -> str | None:
    """The first that waits for none."""
    return next((stage for stage, others in waiting.items() if not others), None)


def mend() -> None:
    """Remove what a DVC or a stage that was killed left half-written.

    DVC empties ``dvc.lock`` before it writes it, and does not start with half a one. Nothing is
    lost without it: what has run is in DVC's cache.
    """
    for path, check in ((Path("dvc.lock"), check_lock), (Path(".dvc/tmp/rwlock"), json.loads)):
        if is_broken(path, check):
            time.sleep(PATIENCE_S)
            if is_broken(path, check):
                path.unlink()
                print(f"{path}: half-written by a DVC that was killed; removed", flush=True)
    remove_all_abandoned(Path(), WRITTEN)


def is_broken(path: Path, check: Callable[[str], object]) -> bool:
    """Whether the file is there and the check raises an error."""
    try:
        check(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError):
        return True
    return False


def check_lock(text: str) -> None:
    """Raise an error unless DVC can read this; stages that are missing then count as changed."""
    lock = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if lock["schema"] != "2.0":
        raise ValueError
    for stage in lock.get("stages", {}).values():
        str(stage["cmd"])
        for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
            if not {"path", "md5", "size"} <= entry.keys() or entry["hash"] != "md5":
                raise ValueError
            int(entry["size"]), int(entry.get("nfiles", 0))


if __name__ == "__main__":
    main()
