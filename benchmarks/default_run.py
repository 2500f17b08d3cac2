"""Where the seconds of the default run go: imports, data, compute and DVC, for each stage.

    python benchmarks/default_run.py [--revision HEAD]

Runs ``dvc repro`` in a temporary clone of the working tree, or of a revision of it, with this
file in the place of `python`. The clock is the processor time of all threads, which other programs
disturb least. *Data* is what reads, decodes and augments images: the functions in `DATA`.
"""

import argparse
import atexit
import builtins
import functools
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DATA = {
    "snojoe.training.loader": (
        "TrainSet.__init__",
        "TrainSet.__getitem__",
        "TrainSet.__getitems__",
    ),
    "snojoe.data.shards": ("Shards.__init__", "Shards._batch", "Shards.table", "write_shards"),
}


class Clock:
    """Processor seconds by what they were spent on; what is entered last gets them."""

    def __init__(self):
        self.seconds = {"import": time.process_time(), "data": 0.0, "compute": 0.0}
        self.stack, self.since = ["compute"], time.process_time()

    def charge(self):
        now = time.process_time()
        self.seconds[self.stack[-1]] += now - self.since
        self.since = now

    def timed(self, kind, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            if self.stack[-1] == kind:
                return function(*args, **kwargs)
            self.charge()
            self.stack.append(kind)
            try:
                return function(*args, **kwargs)
            finally:
                self.charge()
                self.stack.pop()

        return call


def stage(script, arguments, log):
    """Run a stage as `python` would, and append what it cost to the log."""
    began, clock = time.monotonic(), Clock()
    plain_import = builtins.__import__

    def watch(module):
        for path in DATA.get(module.__name__, ()):
            *owners, name = path.split(".")
            owner = functools.reduce(getattr, owners, module)
            if name in vars(owner):
                setattr(owner, name, clock.timed("data", getattr(owner, name)))

    def importing(name, *args, **kwargs):
        missing = [name for name in DATA if name not in sys.modules]
        try:
            return plain_import(name, *args, **kwargs)
        finally:
            for name in missing:
                module = sys.modules.get(name)
                if module and not getattr(module.__spec__, "_initializing", False):
                    watch(module)

    builtins.__import__ = clock.timed("import", importing)

    def report():
        clock.charge()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        row = {
            "stage": Path(script).stem,
            **clock.seconds,
            "wall": time.monotonic() - began,
            "mb": usage.ru_maxrss / 1024,
        }
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    atexit.register(report)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def clone(folder, revision):
    if revision:
        archive = subprocess.Popen(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
    else:
        names = subprocess.check_output(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True
        )
        for name in filter(lambda name: (ROOT / name).is_file(), names.splitlines()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    # With it, a machine that gives the same bits would leave out what ends in the same results.
    (folder / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revision", help="a commit, instead of the working tree")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, bin_folder, log = (Path(scratch) / name for name in ("clone", "bin", "log"))
        folder.mkdir()
        bin_folder.mkdir()
        clone(folder, arguments.revision)
        python = bin_folder / "python"
        python.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" '
            f'--stage "{log}" "$@"\n'
        )
        python.chmod(0o755)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        own = Path(sys.executable).parent
        subprocess.run(
            [own / "dvc", "repro", "--quiet"],
            cwd=folder,
            env=os.environ
            | {
                "PATH": f"{bin_folder}{os.pathsep}{own}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(folder / "src"),
            },
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [json.loads(line) for line in log.read_text().splitlines()]
    cpu = sum(getattr(after, f) - getattr(before, f) for f in ("ru_utime", "ru_stime"))
    stages = defaultdict(list)
    for row in rows:
        stages[row["stage"]].append(row)
    kinds = ("import", "data", "compute")
    print("| stage | runs | import | data | compute | seconds of CPU | peak memory |")
    print("|---|---|---|---|---|---|---|")
    total = defaultdict(float)
    for name, runs in stages.items():
        sums = {kind: sum(run[kind] for run in runs) for kind in kinds}
        for kind in kinds:
            total[kind] += sums[kind]
        columns = " | ".join(f"{sums[kind]:.1f}" for kind in kinds)
        peak = max(run["mb"] for run in runs) / 1024
        print(f"| {name} | {len(runs)} | {columns} | {sum(sums.values()):.1f} | {peak:.2f} GB |")
    print(f"| DVC | 1 | | | | {cpu - sum(total.values()):.1f} | |")
    columns = " | ".join(f"{total[kind]:.1f}" for kind in kinds)
    print(f"| **all** | {len(rows)} | {columns} | **{cpu:.1f}** | |")
    in_stages = sum(row["wall"] for row in rows)
    print(f"\n{wall:.0f} s of wall-clock, of which {in_stages:.0f} s in stages")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        stage(sys.argv[3], sys.argv[4:], sys.argv[2])
    else:
        main()
