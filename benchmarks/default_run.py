"""What each stage of the default run costs, and what DVC adds.

    python benchmarks/default_run.py            # dvc repro, one stage after the other
    python benchmarks/default_run.py --jobs 2   # make repro's driver, two stages at a time

Copies the working tree to a temporary folder, without dvc.lock and DVC's cache, and runs everything
there. The `python` of the stages is a script that starts the real one and notes what it took. CPU
seconds are those of all threads and child processes, which other programs disturb least. DVC's
share is all that is not a stage: DVC, the driver, git, shells and that script (0.05 s a stage).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import print_table

ROOT = Path(__file__).resolve().parents[1]

MEASURING_PYTHON = """#!{python} -IS
import json, resource, subprocess, sys, time
began = time.monotonic()
status = subprocess.call([{python!r}, *sys.argv[1:]])
wall, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
row = dict(script=sys.argv[1], wall=wall, cpu=used.ru_utime + used.ru_stime, memory=used.ru_maxrss)
with open({log!r}, "a") as file:
    file.write(json.dumps(row) + "\\n")
sys.exit(status)
"""


def copy_of_the_tree(folder: Path) -> None:
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.check_output(command, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    # With it, DVC would leave out what has the inputs and the outputs that it lists.
    (folder / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def measured(command: list[str], scratch: Path) -> tuple[float, float, list[dict[str, Any]]]:
    """Wall-clock and CPU seconds of a command that runs the pipeline, and a row for each stage."""
    checkout, programs, log = (scratch / name for name in ("checkout", "bin", "log"))
    checkout.mkdir()
    copy_of_the_tree(checkout)
    programs.mkdir()
    (programs / "python").write_text(
        MEASURING_PYTHON.format(python=sys.executable, log=str(log)), encoding="utf-8"
    )
    (programs / "python").chmod(0o755)
    path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {"PATH": os.pathsep.join(path), "PYTHONPATH": str(checkout / "src")}
    began, before = time.monotonic(), cpu_of_children()
    subprocess.run(
        command, cwd=checkout, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL
    )
    wall, cpu = time.monotonic() - began, cpu_of_children() - before
    return wall, cpu, [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", help="stages at a time, of make repro's driver")
    jobs = parser.parse_args().jobs
    command = [sys.executable, "stages/_repro.py", jobs] if jobs else ["dvc", "repro"]
    with tempfile.TemporaryDirectory() as scratch:
        wall, cpu, runs = measured(command, Path(scratch))
    in_stages = {key: sum(run[key] for run in runs) for key in ("wall", "cpu")}
    rows = []
    for script in dict.fromkeys(run["script"] for run in runs):
        own = [run for run in runs if run["script"] == script]
        seconds = [f"{sum(run[key] for run in own):.1f}" for key in ("wall", "cpu")]
        peak = max(run["memory"] for run in own) * (1 if sys.platform == "darwin" else 1024)
        rows.append([Path(script).stem, len(own), *seconds, f"{peak / 1e9:.2f} GB"])
    between = "" if jobs else f"{wall - in_stages['wall']:.1f}"
    rows.append(["DVC", "", between, f"{cpu - in_stages['cpu']:.1f}", ""])
    rows.append(["**all**", len(runs), f"**{wall:.1f}**", f"**{cpu:.1f}**", ""])
    print_table(["stage", "runs", "wall-clock, s", "CPU, s", "peak memory"], rows)
    print(f"\nDVC's share of the CPU seconds: {1 - in_stages['cpu'] / cpu:.0%}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
