"""What scoring costs: `python benchmarks/scoring.py` at the paper's size, `--coco` at MS-COCO's.

At the paper's size: random arrays of the sizes of VOC 2012, ImageNet-22K and Texture. Times the
paper's seven array scores and the intervals of one printed table; then the straightforward way on a
subset, in the same run: Mahalanobis one class at a time with full products.
Prints medians of the wall-clock time and, per unit of work, the ratio; of the totals also the
processor time of all threads, which other programs disturb less.

At MS-COCO's: random outputs of a ResNet-101 on disk, as inference writes them. Every score has a
process of its own, which fits it and scores the three sets. Its seconds are those of its threads;
its peak memory holds all, the imports and the pages of the mapped arrays too (Linux only).
`--each` does so at the paper's size with 2,048 hidden features, for the ID test set alone, and
tells the size of the stored detector. `--scores knn lof` names some alone, `--share 0.05` scores
that share of each set, for those that take long. `--tuned` compares that with the same for the
values of the grid as well: all are fitted and measured on as many pseudo-OOD images as inference
keeps, and the ID test set is scored by two.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.covariance import EmpiricalCovariance

from snojoe.data.pseudo_ood import PSEUDO_OOD
from snojoe.detectors import (
    DETECTORS,
    PAPER_DETECTORS,
    LinearHead,
    Mahalanobis,
    fit_detector,
    fit_variants,
    save_detector,
)
from snojoe.detectors.outputs import ModelOutputs, load_outputs
from snojoe.detectors.store import ID
from snojoe.measures.comparisons import bold_rows
from snojoe.measures.estimates import estimates
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.results.tuned_scores import pseudo_fpr95s

K, FEATURES = 20, 2048
TRAIN, VAL, TEST = 5_717, 5_823, 10_991
OOD = {"ImageNet-22K": 18_835, "Texture": 5_640}
ROWS, SEEDS = 8, 3
SUBSET_IMAGES = 1_000
PSEUDO_IMAGES = 300  # at most, of each set: snojoe.inference.infer, which imports torch


@dataclass(frozen=True)
class Size:
    """What `score_one` fits on and scores: images by set, labels, hidden features."""

    images: dict[str, int]
    labels: int
    hidden: int
    labels_per_image: float


SIZES = {
    "paper": Size({"train": TRAIN, "val": VAL, "test": TEST}, K, FEATURES, 1.55),
    "coco": Size(
        {"train": 82_783, "val": 40_504, "test": 40_775, "imagenet22k": 18_835, "texture": 5_640},
        labels=80,
        hidden=1000,
        labels_per_image=2.9,
    ),
}


def median_time(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def fit_and_score(detector, X, y, sets):
    fitted = detector.fit(X, y)
    return [fitted.score_samples(images) for images in sets]


def mahalanobis_per_class(X, y, images):
    """A copy of the images for each class, and for each class the full product."""
    means = [X[y[:, k] == 1].mean(axis=0) for k in range(K)]
    centred = np.concatenate([X[y[:, k] == 1] - means[k] for k in range(K)])
    precision = EmpiricalCovariance(assume_centered=True).fit(centred).precision_
    start = time.perf_counter()
    distances = [((images - m) @ precision * (images - m)).sum(axis=1) for m in means]
    return -0.5 * np.min(distances, axis=0), time.perf_counter() - start


def bench_detectors(rng, repeats):
    labels = (rng.random((TRAIN, K)) < 1.55 / K).astype(int)
    features = rng.standard_normal((TRAIN, FEATURES), dtype=np.float32)
    feature_sets = [
        rng.standard_normal((n, FEATURES), dtype=np.float32) for n in (TEST, *OOD.values())
    ]
    logits = rng.standard_normal((VAL, K), dtype=np.float32)
    logit_sets = [rng.standard_normal((n, K), dtype=np.float32) for n in (TEST, *OOD.values())]

    total, busy = 0.0, time.process_time()
    for detector in PAPER_DETECTORS:
        data: tuple[Any, ...] = (features, labels, feature_sets)
        if detector.consumes == ("logits",):
            data = (logits, None, logit_sets)
        seconds = median_time(partial(fit_and_score, detector(), *data), repeats)
        total += seconds
        print(f"| {detector.title}, fit and score | {seconds:.2f} s | | |")
    busy = (time.process_time() - busy) / repeats
    print(f"| **all seven** (goal 10 s; CPU {busy:.1f} s) | **{total:.2f} s** | | |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| peak memory, arrays included (goal 3 GB) | {peak:.2f} GB | | |")

    X, images = features.astype(np.float64), feature_sets[0][:SUBSET_IMAGES].astype(np.float64)
    start = time.perf_counter()
    expected, plain_score = mahalanobis_per_class(X, labels, images)
    plain_fit = time.perf_counter() - start - plain_score
    fit = median_time(lambda: Mahalanobis().fit(X, labels), repeats)
    fitted = Mahalanobis().fit(X, labels)
    score = median_time(lambda: fitted.score_samples(images), repeats)
    np.testing.assert_allclose(fitted.score_samples(images), expected, rtol=1e-6)
    print_ratio("Mahalanobis, fit", fit, plain_fit)
    print_ratio(f"Mahalanobis, score {SUBSET_IMAGES:,} images", score, plain_score)


def write_sets(folder, size, rng):
    """Outputs of every set, hidden and features not negative (after ReLU)."""
    for name, n in size.images.items():
        (folder / name).mkdir()
        widths = {"logits": size.labels, "features": FEATURES, "hidden": size.hidden}
        for field, width in widths.items():
            shape = (n, width)
            array = np.lib.format.open_memmap(folder / name / f"{field}.npy", "w+", "<f4", shape)
            for start in range(0, n, 4096):
                values = rng.standard_normal(array[start : start + 4096].shape, dtype=np.float32)
                array[start : start + 4096] = values if field == "logits" else np.abs(values)
        labels = (rng.random((n, size.labels)) < size.labels_per_image / size.labels).astype("u1")
        np.save(folder / name / "labels.npy", labels)


def score_one(name, folder, size, share):
    """Print seconds of CPU of fitting and of scoring, peak memory in MB, size in kB, as JSON."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(size.labels, size.hidden)).astype(np.float32)
    head = LinearHead(weight, np.ones(size.labels))
    train, val, *sets = (load_outputs(folder / each) for each in size.images)
    began = time.process_time()
    detector = fit_detector(name, train, val, head)
    fitted = time.process_time()
    for outputs in sets:
        of_share = slice(round(share * len(outputs.logits)))
        outputs = ModelOutputs(**{field: array[of_share] for field, array in vars(outputs).items()})
        assert np.isfinite(detector.score_outputs(outputs)).all()
    ended = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    save_detector(detector.calibrate_scores(np.zeros(1)), folder / "detector")
    stored = (folder / "detector").stat().st_size / 1000
    print(json.dumps([fitted - began, ended - fitted, peak, stored]))


def tuned_one(name, folder):
    """Print seconds of CPU and peak memory in MB of tuning: fit, choose, score test by two."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(K, FEATURES)).astype(np.float32)
    head = LinearHead(weight, np.ones(K))
    train, val, test = (load_outputs(folder / each) for each in SIZES["paper"].images)
    pseudo = [load_outputs(folder / each) for each in (ID, *PSEUDO_OOD)]
    began = time.process_time()
    variants = fit_variants(name, train, val, head)
    pseudo_fpr95s(variants, pseudo[0], pseudo[1:], head)
    variants[0].score_variants([variants[0], variants[-1]], test)
    ended = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([len(variants), ended - began, peak]))


def bench_tuned(scores):
    head = ("score", "values", "alone, s of CPU", "with tuning", "peak memory, GB", "with tuning")
    print(f"| {' | '.join(head)} |")
    print("|---|---|---|---|---|---|")
    images = SIZES["paper"].images | dict.fromkeys((ID, *PSEUDO_OOD), PSEUDO_IMAGES)
    total = np.zeros(2)
    with tempfile.TemporaryDirectory() as scratch:
        write_sets(Path(scratch), replace(SIZES["paper"], images=images), np.random.default_rng(0))
        for name in [score for score in scores if DETECTORS[score].grid]:
            alone, tuned = (
                json.loads(
                    subprocess.check_output(
                        [sys.executable, __file__, mode, name, scratch, "paper", "1"], text=True
                    )
                )
                for mode in ("--score", "--tune")
            )
            fit, score, peak, _ = alone
            values, seconds, tuned_peak = tuned
            total += (fit + score, seconds)
            measured = f"{fit + score:.1f} | {seconds:.1f} | {peak / 1024:.2f}"
            print(f"| {DETECTORS[name].title} | {values} | {measured} | {tuned_peak / 1024:.2f} |")
    print(f"| **all** | | {total[0]:.1f} | {total[1]:.1f} | | |")


def bench_each(scores, key, share):
    head = ("score", "fitted on", "fit, s of CPU", f"score {share:.0%}, s of CPU")
    print(f"| {' | '.join((*head, 'peak memory, GB', 'stored, kB'))} |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        write_sets(Path(scratch), SIZES[key], np.random.default_rng(0))
        for name in scores:
            command = [sys.executable, __file__, "--score", name, scratch, key, str(share)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            fit, score, peak, stored = json.loads(done.stdout)
            row = (DETECTORS[name].title, DETECTORS[name].fitted_on, f"{fit:.1f}", f"{score:.1f}")
            print(f"| {' | '.join((*row, f'{peak / 1024:.2f}', f'{stored:,.0f}'))} |", flush=True)


def bench_intervals(rng, repeats, test=TEST):
    rows = [f"row {i}" for i in range(ROWS)]
    id_scores = {row: rng.normal(1, 1, (SEEDS, test)) for row in rows}
    sets = [{row: rng.normal(0, 1, (SEEDS, m)) for row in rows} for m in OOD.values()]

    def table():
        for ood_scores in sets:
            of_rows = estimates(id_scores, ood_scores)
            for metric in OOD_METRICS:
                column = {row: of[metric.name] for row, of in of_rows.items()}
                for each in column.values():
                    each.interval()
                bold_rows(column, metric)

    seconds = median_time(table, repeats)
    print(
        f"| intervals and bold rows of a table: {ROWS} scores x {SEEDS} seeds x {len(sets)} sets x "
        f"3 metrics | {seconds:.1f} s | | |"
    )


def print_ratio(what: str, ours: float, plain: float) -> None:
    print(f"| {what} | {1e3 * ours:.2f} ms | {1e3 * plain:.1f} ms | {plain / ours:.0f} x |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--coco", action="store_true", help="at MS-COCO's size")
    parser.add_argument("--each", action="store_true", help="every score, at the paper's size")
    parser.add_argument("--tuned", action="store_true", help="what tuning costs, at the paper's")
    parser.add_argument("--scores", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--share", type=float, default=1.0)
    arguments = parser.parse_args()
    repeats, rng = arguments.repeats, np.random.default_rng(0)
    if arguments.coco:
        bench_each(arguments.scores, "coco", arguments.share)
        bench_intervals(rng, repeats, SIZES["coco"].images["test"])
        return
    if arguments.tuned:
        bench_tuned(arguments.scores)
        return
    if arguments.each:
        bench_each(arguments.scores, "paper", arguments.share)
        return
    print("| work | snojoe | straightforward | ratio |")
    print("|---|---|---|---|")
    bench_detectors(rng, repeats)
    bench_intervals(rng, repeats)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--score"]:
        score_one(sys.argv[2], Path(sys.argv[3]), SIZES[sys.argv[4]], float(sys.argv[5]))
    elif sys.argv[1:2] == ["--tune"]:
        tuned_one(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
