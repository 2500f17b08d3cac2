"""How long until `snojoe detect` says something, beside what PyTorch alone takes to be imported.

    python benchmarks/first_line.py --model models/sn9/seed0 image.jpg

In turn, in new processes: wall-clock seconds to the first line, and CPU seconds of the whole run.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from timing import print_table


def first_line(command: Sequence[str]) -> tuple[float, float]:
    """Seconds to the first byte that a command writes, and its CPU seconds until it ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = time.monotonic() - began
        process.stdout.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, sum(after[:2]) - sum(before[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="+", default=[], help="model folders; default: as detect")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("image")
    args = parser.parse_args()
    models = [part for model in args.model for part in ("--model", model)]
    entry = [sys.executable, "-c", "import sys; from snojoe.cli import main; sys.exit(main())"]
    commands = {
        "import torch": [sys.executable, "-c", "import torch; print()"],
        "snojoe detect": [*entry, "detect", *models, args.image],
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(args.rounds):
        for name, command in commands.items():
            took[name].append(first_line(command))
    rows = [
        [name, *(f"{f(column):.2f}" for column in zip(*found, strict=True) for f in (min, median))]
        for name, found in took.items()
    ]
    print_table(["", "first line, least", "median", "CPU, least", "median"], rows)
    print(f"\nseconds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
