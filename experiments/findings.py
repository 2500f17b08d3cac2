"""The experiment nobody has published: bound x BatchNorm x depth, queued as DVC experiments.

Each arm is one experiment of DVC's queue with its control, depth 0, of the same seeds. Workers run
them in the background, `--jobs` at a time; the workspace stays as it is. The script can be killed
and called again: finished arms are kept, running ones are waited for, what is missing is queued
again and goes on from its finished models and checkpoints. The data, the trunk and everything else
are those of params.yaml.

    python experiments/findings.py docs/findings/digits.csv
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import time
from pathlib import Path

import pandas as pd

from snojoe.model.architectures import layer_names
from snojoe.params import load_params

BOUNDS = {
    "none": ["spectral_norm.bound=none"],
    "hard": ["spectral_norm.bound=hard"],
    "soft3": ["spectral_norm.bound=soft", "spectral_norm.coefficient=3.0"],
}
BATCH_NORMS = {
    "train": ["train.freeze_after_epoch=null"],
    "frozen3": ["train.freeze_after_epoch=3"],
    "frozen1": ["train.freeze_after_epoch=1"],
    "spectral": ["train.freeze_after_epoch=null", "spectral_norm.batch_norm_bound=3.0"],
}
# Those with "head" normalise the head too, whose last layer has no BatchNorm behind it.
ARMS = {
    "hard-train": ["trunk", "head"],
    "hard-frozen1": ["trunk", "head"],
    "hard-frozen3": ["trunk", "head"],
    "soft3-train": ["trunk"],
    "soft3-frozen1": ["trunk"],
    "hard-spectral": ["trunk"],
    "soft3-spectral": ["trunk"],
    "none-spectral": ["trunk"],
}
POLL_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="CSV to write; its name names the experiments")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="arms that run at a time")
    options = parser.parse_args()
    names = {
        f"{options.result.stem}-{arm}-{digest(settings(arm, options.seeds))}": arm
        for arm in options.arms
    }

    known = {**finished(), **dict.fromkeys(pending())}
    for name, arm in names.items():
        if name not in known:
            run("dvc", "exp", "run", "--queue", "--name", name, *settings(arm, options.seeds))
    if set(names) - finished().keys():
        run("dvc", "queue", "start", "--jobs", str(options.jobs))
    wait_for(set(names))

    frames = []
    for name, arm in names.items():
        bound, batch_norm = arm.split("-")
        table3 = output("git", "show", f"{finished()[name]}:metrics/table3.csv")
        table = pd.read_csv(io.StringIO(table3))
        frames.append(table.assign(bound=bound, batch_norm=batch_norm))
    options.result.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).to_csv(options.result, index=False)
    print(f"{options.result}: {len(names)} arms, {len(options.seeds)} seeds")


def digest(flags: list[str]) -> str:
    """Six letters for the settings: others are another experiment."""
    return hashlib.sha256(Path("params.yaml").read_bytes() + repr(flags).encode()).hexdigest()[:6]


def settings(arm: str, seeds: list[int]) -> list[str]:
    """Flags of ``dvc exp run`` for an arm."""
    bound, batch_norm = arm.split("-")
    layers = len(layer_names(load_params().model.arch))
    depths = [0] + [{"trunk": layers - 1, "head": layers}[extent] for extent in ARMS[arm]]
    four = [*depths, 0, 0, 0][:4]
    values = [
        f"sn_layers={layers - 1}",
        f"ablation.sn_layers={four}",
        f"seeds={seeds}",
        *BOUNDS[bound],
        *BATCH_NORMS[batch_norm],
    ]
    return [flag for value in values for flag in ("-S", value)] + ["ablate"]


def wait_for(names: set[str]) -> None:
    """Return when all are finished; say each that is, and stop at the first that failed."""
    done: set[str] = set()
    while done != names:
        for name in sorted(names & finished().keys() - done):
            done.add(name)
            print(
                f"{time.strftime('%H:%M')} {name}: finished, {len(names - done)} left", flush=True
            )
        missing = names - done - pending()
        if missing - finished().keys():
            name = sorted(missing)[0]
            raise SystemExit(f"{name} failed; see: dvc queue logs {name}")
        if done != names:
            time.sleep(POLL_S)


def pending() -> set[str]:
    """Names of the experiments that are queued or running."""
    rows = [line.split() for line in output("dvc", "queue", "status").splitlines()]
    return {row[1] for row in rows if len(row) > 1 and row[-1] in ("Queued", "Running")}


def finished() -> dict[str, str]:
    """Name -> git reference of the experiments that DVC keeps for this commit."""
    head = output("git", "rev-parse", "HEAD").strip()
    kept = f"refs/exps/{head[:2]}/{head[2:]}"
    references = output("git", "for-each-ref", "--format=%(refname)", kept).split()
    return {reference.rpartition("/")[2]: reference for reference in references}


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def output(*command: str) -> str:
    return subprocess.check_output(command, text=True)


if __name__ == "__main__":
    main()
