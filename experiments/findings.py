"""The experiment nobody has published: bound x BatchNorm x depth, over many draws of the data.

The plan, docs/findings/plan.md, says which arms, draws and seeds, and what is concluded from which
outcome; everything else is params.yaml's. Each process takes whole draws: it makes the data, trains
the arms with both seeds and writes the lines of a training, one for each OOD set, as soon as they
are known. Killed and called again, it goes on with the trainings whose lines are missing.

    python experiments/findings.py docs/findings/digits.csv --jobs 2
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from snojoe.params import Params, load_params
from snojoe.support.arithmetic import check_arithmetic, pin_arithmetic

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DRAWS = range(100, 130)  # data.digits.seed
SEEDS = 2  # the trainings of draw d have the seeds 10 d and 10 d + 1
FEWER = DRAWS[:10]  # draws of the arms that are not of the main question
FIELDS = (
    *("draw", "seed", "bound", "batch_norm", "sn_layers", "ood_set"),
    *("fpr95", "auroc", "aupr", "val_map"),
)


class Arm(NamedTuple):
    """Bound on the weights, how BatchNorm is treated, and the depth of both."""

    bound: str
    batch_norm: str
    sn_layers: int


# Depth 9 is the whole trunk of resnet10; 10 takes the head too. Depth 0 is the control.
BATCH_NORMS = ("frozen3", "train")
MAIN = [
    Arm("hard" if depth else "none", batch_norm, depth)
    for depth in (0, 9, 10)
    for batch_norm in BATCH_NORMS
]
OTHERS = [
    *(Arm("soft3", batch_norm, 9) for batch_norm in BATCH_NORMS),
    Arm("none", "due", 9),
    Arm("hard", "due", 9),
]


class Training(NamedTuple):
    """One training of an arm."""

    draw: int
    seed: int
    arm: Arm


def trainings(draw: int, arms: Sequence[Arm]) -> list[Training]:
    """Those of some arms on one draw of the data."""
    seeds = range(10 * draw, 10 * draw + SEEDS)
    return [Training(draw, seed, arm) for seed in seeds for arm in arms]


def settings(params: Params, training: Training) -> Params:
    """The parameters of a training."""
    bound, batch_norm, _ = training.arm
    tree = params.model_dump()
    tree["data"]["digits"]["seed"] = training.draw
    tree["spectral_norm"] |= {
        "bound": bound.rstrip("3"),
        "coefficient": 3.0,
        "batch_norm_bound": 3.0 if batch_norm == "due" else None,
    }
    tree["train"]["freeze_after_epoch"] = 3 if batch_norm == "frozen3" else None
    return Params.model_validate(tree)


def measure(params: Params, training: Training, folder: Path) -> list[dict[str, Any]]:
    """Train, and the metrics of the joint energy on every OOD set, in percent.

    Frozen after epoch 3 and never frozen are one training up to there: where the one has left its
    checkpoint, the other goes on from it, which gives the bits of a training of its own.
    """
    import torch

    from snojoe.data.prepared import read_classes
    from snojoe.data.shards import Shards
    from snojoe.experiment import Folders
    from snojoe.measures.ood_metrics import OOD_METRICS
    from snojoe.model.classifier import build_classifier
    from snojoe.model.energy import joint_energy
    from snojoe.model.weights import weights_file
    from snojoe.spectral_norm import fold_spectral_norm
    from snojoe.spectral_norm.batch_norm import fold_spectral_batch_norm
    from snojoe.training import loop
    from snojoe.training.loader import TrainSet, TrainTransform
    from snojoe.training.validation import predict_logits

    loop.CHECKPOINT_EVERY_S = 0.0
    bound, batch_norm, depth = training.arm
    folders = Folders(folder)
    torch.set_num_threads(params.train.threads)
    torch.manual_seed(training.seed)
    classes = read_classes(folders.prepared)
    model = build_classifier(params.model.arch, len(classes), weights_file(folders.weights))
    low, high = params.train.augment.scale
    transform = TrainTransform(params.data.image_size, (low, high), params.train.augment.flip)
    until = "3" if batch_norm in BATCH_NORMS else batch_norm
    record = loop.train_classifier(
        model,
        TrainSet(folders.shards("train"), transform, training.seed),
        Shards(folders.shards("val")),
        params=params.train,
        spectral_norm=params.spectral_norm,
        sn_layers=depth,
        checkpoint=folder / f"{training.seed}-{bound}-{depth}-{until}.pt",
    )
    fold_spectral_batch_norm(fold_spectral_norm(model))
    energies = {
        name: joint_energy(predict_logits(model, Shards(folders.shards(name)))[0].astype(float))
        for name in ("test", *params.data.ood)
    }
    known = {"draw": training.draw, "seed": training.seed, **training.arm._asdict()}
    return [
        {
            **known,
            "ood_set": ood_set,
            **{m.name: 100 * m.of(energies["test"], energies[ood_set]) for m in OOD_METRICS},
            "val_map": 100 * record.history[-1]["val_map"],
        }
        for ood_set in params.data.ood
    ]


def make_data(params: Params, folder: Path) -> None:
    """Archives and shards of a draw, where they are not there yet."""
    from snojoe.data.fetch import fetch, locate
    from snojoe.data.prepare import prepare
    from snojoe.data.weights import fetch_weights
    from snojoe.experiment import Folders

    folders = Folders(folder)
    if not folders.prepared.exists():
        fetch(params.data, folders.raw, folder / "downloads")
        fetch_weights(params.model.arch, params.model.weights, folder, folders.weights)
        prepare(params.data, partial(locate, folder=folder, raw=folders.raw), folders.prepared)
        shutil.rmtree(folders.raw)


def work(result: Path, job: int, jobs: int, scratch: Path) -> None:
    """All that is missing of every `jobs`-th draw: the main question first."""
    params = load_params()
    pin_arithmetic()
    for reason in check_arithmetic(["torch", "numpy"]):
        print(f"not the digits of other machines: {reason}", file=sys.stderr)
    for arms, draws in ((MAIN, DRAWS), (OTHERS, FEWER)):
        for draw in draws[job::jobs]:
            folder = scratch / f"draw{draw}"
            for training in trainings(draw, arms):
                if training in finished(result):
                    continue
                started = time.monotonic()
                own = settings(params, training)
                with Path(os.devnull).open("w") as silence, redirect_stdout(silence):
                    make_data(own, folder)
                    rows = measure(own, training, folder)
                append(result, rows)
                took = time.monotonic() - started
                print(f"{time.strftime('%H:%M:%S')} {training}: {took:.1f} s", flush=True)
            shutil.rmtree(folder, ignore_errors=True)


def append(result: Path, rows: list[dict[str, Any]], fields: Sequence[str] = FIELDS) -> None:
    """In one write, so that processes do not mix their lines and a kill leaves whole trainings."""
    lines = [[format_cell(row[field]) for field in fields] for row in rows]
    text = "".join(f"{','.join(line)}\n" for line in lines)
    with result.open("ab", buffering=0) as file:
        file.write(text.encode())
        os.fsync(file.fileno())


def format_cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def finished(result: Path) -> set[Training]:
    """The trainings that have their lines."""
    with result.open(newline="") as file:
        return {
            Training(
                int(row["draw"]),
                int(row["seed"]),
                Arm(row["bound"], row["batch_norm"], int(row["sn_layers"])),
            )
            for row in csv.DictReader(file)
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="CSV to write, or to go on with")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--scratch", type=Path, default=Path(".checkpoints/findings"))
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        return work(options.result, options.job, options.jobs, options.scratch)
    if not options.result.exists():
        options.result.parent.mkdir(parents=True, exist_ok=True)
        options.result.write_text(f"{','.join(FIELDS)}\n")
    command = [sys.executable, *sys.argv, "--job"]
    workers = [subprocess.Popen([*command, str(job)]) for job in range(options.jobs)]
    sys.exit(max(worker.wait() for worker in workers))


if __name__ == "__main__":
    main()
