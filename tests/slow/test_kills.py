"""``make repro``, killed again and again: it finishes, with the results of an undisturbed run."""

import collections
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import time

import psutil
import pytest
from test_pipeline import Checkout

KILLS = 50
KILLS_PER_STAGE = 6  # in each clone; a stage that is done cannot be killed again
SMALL = {
    "seeds": [0],
    "ablation": {"sn_layers": [0, 9, 0, 9]},  # two trainings, side by side
    "data": {"digits": {"size": 32, "train": 24, "val": 20, "test": 16, "ood": 16}},
    "train": {"epochs": 12, "batch_size": 8},
}
START = "start"  # what comes before the first stage
STAGES = [
    *("download", "preprocess", "train@9-0", "train@0-0", "infer_id@9", "infer_id@0"),
    *("infer_ood@9", "infer_ood@0", "score", "ablate", "report"),
]
REPRO = ("python", "stages/_repro.py", "2")
WHOM = ("repro", "everything", "dvc", "stage")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
BETWEEN_S = 2.0  # what DVC does after a stage and before the next
STOPPED_S = 30.0  # in which a run that was told to stop has to end


class Repro:
    """What ``make repro`` runs, or another command, in a session of its own."""

    def __init__(self, checkout, log, command=REPRO):
        self.log = log
        self.begin = log.stat().st_size if log.exists() else 0
        self.seen = set()
        with log.open("ab") as file:
            self.process = psutil.Popen(
                command,
                cwd=checkout.folder,
                env=checkout._env(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self):
        return self.log.read_bytes()[self.begin :].decode()

    def descendants(self):
        with contextlib.suppress(psutil.NoSuchProcess):
            return self.process.children(recursive=True)
        return []

    def stages(self):
        """The processes at work, by stage."""
        found = {}
        for process in stage_processes(self.descendants()):
            with contextlib.suppress(psutil.Error, KeyError):
                found.setdefault(process.environ()["DVC_STAGE"], process)
        return found

    def wait_for_a_stage(self):
        """Name of the next one that starts, ``START`` at first, None if the run ends."""
        while self.process.poll() is None:
            if new := [name for name in (START, *self.stages()) if name not in self.seen]:
                self.seen.add(new[0])
                return new[0]
            time.sleep(0.1)
        return None

    def kill(self, whom, number, rng):
        """Returns whether there was still something to kill."""
        if self.process.poll() is not None:
            return False
        if whom == "repro":
            os.killpg(self.process.pid, number)  # as a terminal does with Ctrl-C
            return True
        if whom == "everything":
            hit = [self.process, *self.descendants()]
        else:
            some = self.process.children() if whom == "dvc" else [*self.stages().values()]
            hit = rng.sample(some, k=min(1, len(some)))
        for process in hit:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return bool(hit)


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


def temporaries(folder):
    return [path for path in folder.rglob("*.tmp") if ".dvc" not in path.parts]


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
    took = {START: 0.0}
    while run.process.poll() is None:
        for stage, process in run.stages().items():
            took[stage] = time.time() - process.create_time()
        time.sleep(0.1)
    assert run.process.returncode == 0, run.output()
    return took


def kill_until_done(checkout, log, took, kinds, rng, killed):
    """Runs it again and again, and kills it again and again, until it ends well."""
    left = dict.fromkeys(took, KILLS_PER_STAGE)
    run, hit = Repro(checkout, log), False
    while True:
        stage = run.wait_for_a_stage()
        if stage is None:
            if run.process.returncode == 0:
                return
            assert hit, run.output()  # though it met the orphans of the last one
            run, hit = Repro(checkout, log), False
        elif left[stage]:
            # Mostly within the stage, now and then in what DVC does after it.
            time.sleep(rng.uniform(0, took[stage] + BETWEEN_S))
            whom, number = kinds[0]
            if not run.kill(whom, number, rng):
                continue
            hit = True
            kinds.rotate(-1)
            left[stage] -= 1
            killed[stage] += 1
            killed[f"{whom} {number.name}"] += 1
            print(f"{stage}: {whom} {number.name}", flush=True)
            if whom in ("repro", "everything"):
                run.process.wait(STOPPED_S)


@pytest.mark.slow
def test_a_killed_repro_goes_on_to_the_same_results(tmp_path):
    checkout = prepared_checkout(tmp_path / "undisturbed")
    took = duration_of_stages(Repro(checkout, tmp_path / "undisturbed.log"))
    assert sorted(took) == sorted([START, *STAGES])
    undisturbed = results(checkout.folder)

    rng = random.Random(0)
    kinds = collections.deque(itertools.product(WHOM, SIGNALS))
    rng.shuffle(kinds)
    killed = collections.Counter()
    for clone in itertools.count(1):
        checkout = prepared_checkout(tmp_path / f"{clone}")
        log = tmp_path / f"{clone}.log"
        kill_until_done(checkout, log, took, kinds, rng, killed)
        kills = sum(killed[stage] for stage in took)
        said = log.read_text()
        resumed, mended = said.count("resuming after epoch"), said.count("half-written by a DVC")
        print(f"{clone} clones, {kills} kills, {resumed} resumptions, {mended} mended: ", end="")
        print(json.dumps(killed))
        orphans = [p for p in psutil.process_iter() if within(p, checkout.folder)]
        assert psutil.wait_procs(orphans, timeout=60)[1] == []
        assert_as_undisturbed(checkout, undisturbed)

        # Once more, with nothing to run and nothing to write: it tidies up all the same.
        of_the_dead = f"{socket.gethostname().replace('.', '-')}.{2**22 + 1}.tmp"
        for name in (f"data/.raw.{of_the_dead}", f"models/sn9/.seed0.{of_the_dead}"):
            (checkout.folder / name).mkdir()
            (checkout.folder / name / "half").touch()
        assert " | " not in checkout(*REPRO)
        assert_as_undisturbed(checkout, undisturbed)
        if kills >= KILLS:
            return


def assert_as_undisturbed(checkout, undisturbed):
    assert results(checkout.folder) == undisturbed
    assert temporaries(checkout.folder) == []
    notes = (checkout.folder / ".checkpoints/train").iterdir()  # of what is one and the same
    assert [path for path in notes if path.suffix != ".json"] == []
