"""``make repro``, killed again and again: it finishes, with the results of an undisturbed run."""

import collections
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import time

import psutil
import pytest
from test_pipeline import Checkout

KILLS = 50
KILLS_PER_STAGE = 6  # in each clone; a stage that is done cannot be killed again
SMALL = {
    "seeds": [0],
    "ablation": {"sn_layers": [0, 9, 0, 9]},
    "data": {"digits": {"size": 32, "train": 24, "val": 20, "test": 16, "ood": 16}},
    "train": {"epochs": 3, "batch_size": 8},
}
STAGES = [
    *("download", "preprocess", "train@9-0", "train@0-0", "infer_id@9", "infer_id@0"),
    *("infer_ood@9", "infer_ood@0", "score", "ablate", "report"),
]
WHOM = ("group", "dvc", "stage")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Repro:
    """What ``make repro`` runs, in a process group of its own."""

    def __init__(self, checkout, log):
        self.log = log
        self.start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                ["sh", "-c", "python stages/_mend.py && exec dvc repro"],
                cwd=checkout.folder,
                env=checkout._env(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self):
        return self.log.read_bytes()[self.start :].decode()

    def started(self):
        """Stages in the order in which they were started."""
        lines = self.output().splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def wait_for_a_stage(self, after):
        """Name of the first stage that starts after `after` others, None if the run ends."""
        while self.process.poll() is None:
            if len(started := self.started()) > after:
                return started[after]
            time.sleep(0.05)
        return None

    def kill(self, whom, number):
        """Returns whether there was still something to kill."""
        if self.process.poll() is not None:
            return False
        if whom == "group":
            os.killpg(self.process.pid, number)
        elif whom == "dvc":
            self.process.send_signal(number)
        else:
            stages = stage_processes(psutil.Process(self.process.pid).children(recursive=True))
            if not stages:
                return False
            stages[0].send_signal(number)
        return True


def stage_processes(processes):
    found = []
    for process in processes:
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if any(word.startswith("stages/") for word in command[1:3]):  # torchrun adds -u
            found.append(process)
    return found


def within(process, folder):
    with contextlib.suppress(psutil.Error):
        return process.cwd() == str(folder)
    return False


def results(folder):
    """Every byte that the experiment made, by name; ``history`` and pictures included."""
    folders = ("metrics", "plots", "models", "outputs", "data")
    files = (path for name in folders for path in (folder / name).rglob("*") if path.is_file())
    paths = (*files, folder / "report.html")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def prepared_checkout(folder):
    checkout = Checkout(folder)
    checkout.change(SMALL)
    training = folder / "src/snojoe/training/loop.py"  # a checkpoint after each epoch
    text = training.read_text()
    assert "CHECKPOINT_EVERY_S = 15.0" in text
    training.write_text(text.replace("CHECKPOINT_EVERY_S = 15.0", "CHECKPOINT_EVERY_S = 0.0"))
    checkout("git", "commit", "--quiet", "--all", "--message", "small")
    return checkout


def duration_of_stages(run):
    """Follows a run to its end."""
    took, done = {}, 0
    while stage := run.wait_for_a_stage(done):
        took[stage], done = -time.monotonic(), done + 1
        while run.process.poll() is None and len(run.started()) == done:
            time.sleep(0.05)
        took[stage] += time.monotonic()
    assert run.process.returncode == 0, run.output()
    return took


def kill_until_done(checkout, log, took, kinds, rng, killed):
    """Runs it again and again, and kills it again and again, until it ends well."""
    left = dict.fromkeys(STAGES, KILLS_PER_STAGE)
    run, done = Repro(checkout, log), 0
    while True:
        stage = run.wait_for_a_stage(done)
        if stage is None:
            if run.process.returncode == 0:
                return
            run, done = Repro(checkout, log), 0
            continue
        done += 1
        if not left[stage]:
            continue
        # Mostly within the stage, now and then in what DVC does after it.
        time.sleep(rng.uniform(0, 1.05 * took[stage]))
        whom, number = next(kinds)
        if not run.kill(whom, number):
            continue
        left[stage] -= 1
        killed[stage] += 1
        killed[f"{whom} {signal.Signals(number).name}"] += 1
        print(f"{stage}: {whom} {signal.Signals(number).name}", flush=True)
        # DVC ignores Ctrl-C while a stage runs, and leaves it to the stage; a stage that has
        # done its work cannot be stopped any more. Orphans are not waited for: the next run meets
        # them.
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(0.5 if whom == "dvc" and number == signal.SIGINT else 15)


@pytest.mark.slow
def test_a_killed_repro_goes_on_to_the_same_results(tmp_path):
    checkout = prepared_checkout(tmp_path / "undisturbed")
    took = duration_of_stages(Repro(checkout, tmp_path / "undisturbed.log"))
    assert sorted(took) == sorted(STAGES)
    undisturbed = results(checkout.folder)

    rng = random.Random(0)
    kinds = itertools.cycle(rng.sample(list(itertools.product(WHOM, SIGNALS)), k=9))
    killed = collections.Counter()
    for clone in itertools.count(1):
        checkout = prepared_checkout(tmp_path / f"{clone}")
        log = tmp_path / f"{clone}.log"
        kill_until_done(checkout, log, took, kinds, rng, killed)
        kills = sum(killed[stage] for stage in STAGES)
        said = log.read_text()
        resumed, mended = said.count("resuming after epoch"), said.count("half-written by a DVC")
        print(f"{clone} clones, {kills} kills, {resumed} resumptions, {mended} mended: ", end="")
        print(json.dumps(killed))
        orphans = [p for p in stage_processes(psutil.process_iter()) if within(p, checkout.folder)]
        assert psutil.wait_procs(orphans, timeout=60)[1] == []

        assert results(checkout.folder) == undisturbed
        assert [p for p in checkout.folder.rglob("*.tmp") if ".dvc" not in p.parts] == []
        assert list((checkout.folder / ".checkpoints/train").iterdir()) == []
        if kills >= KILLS:
            return
