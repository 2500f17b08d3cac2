"""Does the network preserve distances? Measured, where the paper claims a bi-Lipschitz bound.

Eq. 14 claims lower * |x - x'| <= |h(x) - h(x')| <= upper * |x - x'| with lower = (1 - alpha)^(L-1),
which is 0 for alpha = 1. Here the ratios |h(x) - h(x')| / |x - x'| of real pairs stand for it,
h being the trunk's pooled features and x the normalised image.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from snojoe.measures.metrics import FloatArray
from snojoe.model.preprocessing import STD
from snojoe.results.stored import Experiment

IMAGES = 400
"""So many of each set at most."""


def measured_distances(experiment: Experiment, models: Mapping[str, int]) -> pd.DataFrame:
    """`set_distances` of the test images, with columns ``model`` and ``seed``.

    Parameters
    ----------
    experiment : Experiment
    models : mapping
        From ``control`` and ``sn``, if any, to their depth.
    """
    rows, pixels = {}, {}
    for name, stored in experiment.test_sets.items():
        shards = experiment.shards(stored)
        rows[name] = spaced_rows(len(shards), IMAGES)
        pixels[name] = shards.pixels(rows[name])
    frames = []
    for model, depth in models.items():
        for seed in experiment.seeds:
            features = {
                name: experiment.outputs(depth, seed, stored).features[rows[name]]
                for name, stored in experiment.test_sets.items()
            }
            frames.append(set_distances(pixels, features).assign(model=model, seed=seed))
    return pd.concat(frames, ignore_index=True)


def random_pairs(n: int, count: int, seed: int = 0) -> NDArray[np.intp]:
    """(count, 2) rows of distinct images, of n.

    Raises
    ------
    ValueError
        If there are fewer than two images.
    """
    if n < 2:
        raise ValueError(f"expected at least two images; got {n}")
    rng = np.random.default_rng(seed)
    first = rng.integers(n, size=count)
    # Drawing from one fewer and stepping over the first image keeps pairs distinct.
    second = rng.integers(n - 1, size=count)
    return np.stack([first, second + (second >= first)], axis=1)


def spaced_rows(n: int, count: int) -> NDArray[np.intp]:
    """At most ``count`` of n rows, evenly spaced, so that sets sorted by class are covered."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(np.intp))


def set_distances(
    pixels: Mapping[str, NDArray[np.uint8]],
    features: Mapping[str, NDArray[np.floating]],
    *,
    pairs: int = 1000,
) -> pd.DataFrame:
    """Distances of random pairs of images and of their features.

    Parameters
    ----------
    pixels : mapping
        From ``id`` and the name of each OOD set to its images, (n, H, W, 3) uint8.
    features : mapping
        The same with (n, C) features.
    pairs : int
        Number of pairs of two ID images, and of one ID image with one of each OOD set.

    Returns
    -------
    DataFrame
        Columns ``pair`` (``id`` or the OOD set), ``input`` (of pixels divided by 255, in units of
        ImageNet's mean standard deviation) and ``feature``.
    """
    frames = []
    for name, images in pixels.items():
        if name == "id":
            chosen = random_pairs(len(images), pairs)
            x, z = images, features["id"]
        else:
            rng = np.random.default_rng(0)
            n, m = len(pixels["id"]), len(images)
            chosen = np.stack([rng.integers(n, size=pairs), n + rng.integers(m, size=pairs)], 1)
            x = np.concatenate([pixels["id"], images])
            z = np.concatenate([features["id"], features[name]])
        inputs = pair_distances(x, chosen) / (255 * np.mean(STD))
        frames.append(
            pd.DataFrame({"pair": name, "input": inputs, "feature": pair_distances(z, chosen)})
        )
    # Two equal images have no ratio.
    frame = pd.concat(frames, ignore_index=True)
    return frame[frame["input"] > 0]


def pair_distances(values: ArrayLike, pairs: NDArray[np.intp]) -> FloatArray:
    """Euclidean distance of each pair of rows: (n, ...) array, (p, 2) rows -> (p,) float64."""
    rows = np.asarray(values)
    rows = rows.reshape(len(rows), -1)
    return np.array([np.linalg.norm(rows[i].astype(float) - rows[j]) for i, j in pairs])


def distance_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Empirical bounds of eq. 14 for each model, seed and kind of pair.

    Parameters
    ----------
    frame : DataFrame
        Columns ``model``, ``seed``, ``pair``, ``input``, ``feature``: distances of one pair each.

    Returns
    -------
    DataFrame
        Columns ``model``, ``seed``, ``pair``, ``lower`` and ``upper`` (smallest and largest
        ratio), ``spread`` (upper / lower, which no rescaling of the features changes) and
        ``spearman`` (rank correlation of the distances).
    """
    rows = []
    for (model, seed, pair), group in frame.groupby(["model", "seed", "pair"], sort=False):
        ratio = group["feature"] / group["input"]
        rows.append(
            {
                "model": model,
                "seed": seed,
                "pair": pair,
                "lower": ratio.min(),
                "upper": ratio.max(),
                "spread": ratio.max() / ratio.min(),
                "spearman": spearmanr(group["input"], group["feature"]).statistic,
            }
        )
    return pd.DataFrame(rows)
