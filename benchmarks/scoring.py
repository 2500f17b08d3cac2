"""What scoring costs at the paper's size: `python benchmarks/scoring.py`.

Random arrays of the sizes of VOC 2012, ImageNet-22K and Texture. Times the paper's seven array
scores and the intervals of one printed table; then the straightforward way on a subset, in the same
run: Mahalanobis one class at a time with full products.
Prints medians of the wall-clock time and, per unit of work, the ratio; of the totals also the
processor time of all threads, which other programs disturb less.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.covariance import EmpiricalCovariance

from snojoe.detectors import PAPER_DETECTORS, Mahalanobis
from snojoe.measures.comparisons import bold_rows
from snojoe.measures.estimates import estimates
from snojoe.measures.ood_metrics import OOD_METRICS

K, FEATURES = 20, 2048
TRAIN, VAL, TEST = 5_717, 5_823, 10_991
OOD = {"ImageNet-22K": 18_835, "Texture": 5_640}
ROWS, SEEDS = 8, 3
SUBSET_IMAGES = 1_000


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


def bench_intervals(rng, repeats):
    rows = [f"row {i}" for i in range(ROWS)]
    id_scores = {row: rng.normal(1, 1, (SEEDS, TEST)) for row in rows}
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
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    print("| work | snojoe | straightforward | ratio |")
    print("|---|---|---|---|")
    bench_detectors(rng, repeats)
    bench_intervals(rng, repeats)


if __name__ == "__main__":
    main()
