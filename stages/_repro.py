"""``make repro``: the stages that DVC would run one after the other, side by side.

DVC decides what is to be run and runs it; stages of one generation of its DAG do not read from one
another. Each is a ``dvc repro --single-item``, as many at a time as there are cores, or GPUs. A
plain ``dvc repro`` comes last and finds nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from snojoe.params import load_params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import remove_all_abandoned

PATIENCE_S = 2.0  # that a living DVC may need to write its file
DVC = ("dvc", "--wait-for-lock", "repro", "--quiet")
WRITTEN = ("data", "models", "outputs", "metrics", "plots")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("jobs", nargs="?", type=int, help="stages at a time")
    jobs = parser.parse_args().jobs
    mend()
    try:
        places = places_to_work(jobs, load_params().train.threads)
    except SnojoeError as error:
        sys.exit(f"error: {error}")
    for stages in generations():
        if changed := those_that_changed(stages):
            SideBySide(places).run(changed)
    sys.exit(subprocess.run(DVC, check=False).returncode)


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


def generations() -> Iterator[list[str]]:
    """Names of the stages: each generation reads what earlier ones write."""
    import networkx
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph.reverse()
    for stages in networkx.topological_generations(graph):
        yield sorted(stage.addressing for stage in stages)


def those_that_changed(stages: Sequence[str]) -> list[str]:
    """The stages that DVC would run or bring back from its cache."""
    from dvc.repo import Repo

    with Repo() as repo:
        status = repo.status(targets=list(stages))
    return [stage for stage in stages if stage in status]


class SideBySide:
    """Runs stages, each with its DVC in a session of its own: signals reach them from here alone.

    If this process is killed, its stages find out (``_alone``).
    """

    def __init__(self, places: Sequence[dict[str, str]]) -> None:
        self.free = list(places)
        self.running: dict[int, dict[str, str]] = {}
        self.status = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def run(self, stages: Sequence[str]) -> None:
        """Run all and wait for them; end this process where one fails, after those beside it."""
        waiting = list(stages)
        while self.running or (waiting and not self.status):
            while self.free and waiting and not self.status:
                self._start(waiting.pop(0), self.free.pop(0))
            process, status = os.wait()
            self.free.append(self.running.pop(process))
            self.status = self.status or os.waitstatus_to_exitcode(status)
        if self.status:
            sys.exit("stopped" if self.status < 0 else 1)

    def _start(self, stage: str, place: dict[str, str]) -> None:
        process = subprocess.Popen(
            [*DVC, "--single-item", stage],
            env={**os.environ, **place, "SNOJOE_REPRO": str(os.getpid())},
            start_new_session=True,
        )
        self.running[process.pid] = place
        if self.status < 0:  # the signal came too early for this one
            os.killpg(process.pid, -self.status)

    def _stop(self, number: int, _: Any) -> None:
        self.status = self.status or -number
        for process in self.running:
            os.killpg(process, number)


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
                print(f"{path}: half-written by a DVC that was killed; removed")
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
