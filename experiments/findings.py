"""The experiment nobody has published: bound x BatchNorm x depth, queued as DVC experiments.

Each arm is one ``dvc exp run --temp``: the workspace stays as it is, finished arms are skipped when
the script is called again, and an interrupted one goes on from its finished models and from the
checkpoint of the one that was running. Results are collected from the experiments' own tables.

    python experiments/findings.py docs/findings/digits.csv
"""

from __future__ import annotations

import argparse
import io
import subprocess
from pathlib import Path

import pandas as pd

SEEDS = [0, 1, 2, 3, 4]
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
# (bound, BatchNorm, depths): 9 is the whole trunk, 10 the head too, whose last layer has no
# BatchNorm behind it. Every arm holds its control, depth 0.
ARMS = [
    ("hard", "frozen3", [0, 9, 10]),
    ("hard", "train", [0, 9, 10]),
    ("soft3", "train", [0, 9]),
    ("hard", "spectral", [0, 9]),
    ("none", "spectral", [0, 9]),
    ("soft3", "spectral", [0, 9]),
    ("hard", "frozen1", [0, 9, 10]),
    ("soft3", "frozen1", [0, 9]),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="CSV to write")
    parser.add_argument("--set", action="append", default=[], help="further parameters of all arms")
    parser.add_argument("--trunk", type=int, default=9, help="depth of the whole trunk")
    options = parser.parse_args()
    frames = []
    for bound, batch_norm, depths in ARMS:
        depths = [depth and depth - 9 + options.trunk for depth in depths]
        name = f"{options.result.stem}-{bound}-{batch_norm}"
        if name not in finished():
            four = [*depths, 0, 0, 0][:4]
            settings = [
                f"sn_layers={options.trunk}",
                f"ablation.sn_layers={four}",
                f"seeds={SEEDS}",
                *BOUNDS[bound],
                *BATCH_NORMS[batch_norm],
                *options.set,
            ]
            flags = [flag for setting in settings for flag in ("-S", setting)]
            print(f"{name}: depths {depths}", flush=True)
            command = ["dvc", "exp", "run", "--temp", "--name", name, *flags, "ablate"]
            subprocess.run(command, check=True)
        table3 = output("git", "show", f"{finished()[name]}:metrics/table3.csv")
        table = pd.read_csv(io.StringIO(table3))
        frames.append(table.assign(bound=bound, batch_norm=batch_norm))
        options.result.parent.mkdir(parents=True, exist_ok=True)
        pd.concat(frames).to_csv(options.result, index=False)


def finished() -> dict[str, str]:
    """Name -> git reference of the experiments that DVC keeps for this commit."""
    head = output("git", "rev-parse", "HEAD").strip()
    kept = f"refs/exps/{head[:2]}/{head[2:]}"
    references = output("git", "for-each-ref", "--format=%(refname)", kept).split()
    return {reference.rpartition("/")[2]: reference for reference in references}


def output(*command: str) -> str:
    return subprocess.check_output(command, text=True)


if __name__ == "__main__":
    main()
