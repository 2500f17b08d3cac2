"""Does a threshold accept what it promises? Over re-partitions of val and test.

Val images for calibration and test images are put together and divided anew, as many to calibrate
on as before; tau follows from the one part, and the share that it accepts of the other is counted.
Images are then exchangeable, as the guarantee supposes. Beside it: the share with val and test as
they are, which are draws of their own.

    python experiments/guarantee.py --photographs RESULTS   # of experiments/photographs.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from snojoe.data.stable import calibration_part
from snojoe.detectors import DETECTORS
from snojoe.experiment import Folders
from snojoe.measures.conformal import conformal_rank
from snojoe.measures.thresholds import calibrated_threshold
from snojoe.model.energy import joint_energy
from snojoe.params import load_params
from snojoe.results.formatting import markdown_table
from snojoe.results.stored import Experiment

REPARTITIONS = 1000
ACCEPT = 0.95
SCORES = ("joint_energy", "mahalanobis_pp", "knn", "nn_guide", "vim")  # learnt nothing from val


class Scores(NamedTuple):
    """Of one detector: on the images for calibration and on those of test."""

    title: str
    calibration: NDArray[np.float64]
    test: NDArray[np.float64]


def digits() -> Iterator[Scores]:
    """Joint energy of the default experiment: each model, and their mean."""
    params = load_params()
    experiment = Experiment.of(params, Folders(Path()))
    val = experiment.shards("val")
    chosen = calibration_part(val.table(["id"])["id"].to_pylist(), val.groups())
    energies = {
        split: np.stack(
            [
                joint_energy(
                    experiment.outputs(params.sn_layers, seed, split).logits.astype(np.float64)
                )
                for seed in params.seeds
            ]
        )
        for split in ("val", "test")
    }
    calibration, test = energies["val"][:, chosen], energies["test"]
    for seed, *each in zip(params.seeds, calibration, test, strict=True):
        yield Scores(f"digits, joint energy, seed {seed}", *each)
    yield Scores("digits, joint energy, 3 models", calibration.mean(axis=0), test.mean(axis=0))


def photographs(results: Path) -> Iterator[Scores]:
    """Scores of the control of the findings on photographs, seed 100; half of val calibrates."""
    (path,) = results.glob("*-100-none-frozen1.npz")
    with np.load(path) as found:
        half = np.random.default_rng(0).random(len(found["joint_energy/val"])) < 0.5
        for score in SCORES:
            arrays = (found[f"{score}/{split}"].astype(np.float64) for split in ("val", "test"))
            val, test = arrays
            yield Scores(f"photographs, {DETECTORS[score].title}", val[half], test)


def realised(scores: Scores, confidence: float | None) -> tuple[NDArray[np.float64], float]:
    """(repartitions,) shares accepted, and that of the test images as they are; percent."""
    n = len(scores.calibration)
    pool = np.r_[scores.calibration, scores.test]
    shares = []
    for seed in range(REPARTITIONS):
        order = np.random.default_rng(seed).permutation(len(pool))
        tau = calibrated_threshold(pool[order[:n]], ACCEPT, confidence)
        shares.append(100 * float((pool[order[n:]] >= tau).mean()))
    tau = calibrated_threshold(scores.calibration, ACCEPT, confidence)
    return np.array(shares), 100 * float((scores.test >= tau).mean())


def row(scores: Scores, confidence: float | None) -> list[str]:
    shares, as_is = realised(scores, confidence)
    n = len(scores.calibration)
    rank = max(1, conformal_rank(n, ACCEPT, confidence))
    error = 1.96 * shares.std(ddof=1) / np.sqrt(len(shares))
    low, high = np.quantile(shares, [0.025, 0.975])
    return [
        scores.title,
        "on average" if confidence is None else f"with confidence {100 * confidence:g}%",
        f"{n:,} and {len(scores.test):,}",
        f"{100 * (n + 1 - rank) / (n + 1):.2f}",
        f"{shares.mean():.2f} ± {error:.2f}",
        f"{low:.1f} to {high:.1f}",
        f"{100 * (shares >= 100 * ACCEPT).mean():.1f}",
        f"{as_is:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, metavar="RESULTS")
    options = parser.parse_args()
    found = [*digits(), *(photographs(options.photographs) if options.photographs else ())]
    header = ["scores", "promise of 95%", "to calibrate, to test", "promised mean", "realised mean"]
    header += [
        "95% of re-partitions",
        "re-partitions with at least 95%",
        "val and test as they are",
    ]
    print(markdown_table(header, [row(each, c) for c in (None, 0.95) for each in found]))


if __name__ == "__main__":
    main()
