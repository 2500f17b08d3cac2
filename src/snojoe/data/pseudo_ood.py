"""Pseudo-OOD images, made of in-distribution ones: what is chosen or trained on without OOD data.

The five sets of the protocol (Wang et al. 2021, after Hendrycks et al., "Deep anomaly detection
with outlier exposure", ICLR 2019). Each function takes (n, H, W, 3) uint8 images and a generator,
and returns as many of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

SEEN = (
    "the training saw pseudo-OOD images, made of train (train.outliers): those by which is chosen "
    "here are none that it has not seen the like of"
)
"""What is said beside what they chose, of a network that was trained with their like."""

TILES = 4
"""Tiles of the jigsaw along each edge."""


def gaussian_noise(images: Images, rng: np.random.Generator) -> Images:
    """Pixels of N(0, 0.5), clipped to [-1, 1] and stretched to the range of a byte."""
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return (127.5 + 127.5 * np.clip(0.5 * noise, -1, 1)).round().astype(np.uint8)


def uniform_noise(images: Images, rng: np.random.Generator) -> Images:
    """Every value of a pixel is as likely as any other."""
    return rng.integers(0, 256, images.shape, dtype=np.uint8)


def arithmetic_mean(images: Images, rng: np.random.Generator) -> Images:
    """The mean (a + b) / 2 of each image and another one."""
    others = images[_moved(len(images), rng)]
    return ((images.astype(np.uint16) + others) // 2).astype(np.uint8)


def geometric_mean(images: Images, rng: np.random.Generator) -> Images:
    """The geometric mean sqrt(a b) of each image and another one."""
    others = images[_moved(len(images), rng)]
    return np.sqrt(images.astype(np.uint16) * others).round().astype(np.uint8)


def jigsaw(images: Images, rng: np.random.Generator) -> Images:
    """Each image's 4 x 4 tiles in another order, no tile in its place.

    Where the edge is no multiple of 4, the last rows and columns stay.
    """
    n, height, width, channels = images.shape
    tall, wide = height // TILES, width // TILES
    puzzle = images.copy()
    square = puzzle[:, : TILES * tall, : TILES * wide]
    tiles = square.reshape(n, TILES, tall, TILES, wide, channels).swapaxes(2, 3)
    tiles = tiles.reshape(n, TILES**2, tall, wide, channels)
    orders = np.stack([_moved(TILES**2, rng) for _ in range(n)])
    tiles = tiles[np.arange(n)[:, None], orders]
    tiles = tiles.reshape(n, TILES, TILES, tall, wide, channels).swapaxes(2, 3)
    square[:] = tiles.reshape(square.shape)
    return puzzle


PSEUDO_OOD: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "gaussian_noise": gaussian_noise,
    "uniform_noise": uniform_noise,
    "arithmetic_mean": arithmetic_mean,
    "geometric_mean": geometric_mean,
    "jigsaw": jigsaw,
}


def _moved(n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """A random permutation in which nothing keeps its place (one cycle)."""
    if n < 2:
        raise ValueError(f"images must be two at least, got {n}")
    order = rng.permutation(n)
    moved = np.empty(n, dtype=np.intp)
    moved[order] = np.roll(order, 1)
    return moved
