"""Procedural textures: independent images without objects, four kinds in turn.

Each is a pattern, (size, size) values in 0..1, between two colours of its own. The real set that
they stand for is DTD (Cimpoi et al., CVPR 2014), whose images are close-ups of surfaces.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pattern = NDArray[np.float64]

# Waves, threads and cells along an edge; the slope of a noise's amplitude over its frequency.
_WAVES, _THREADS, _CELLS, _SLOPE = (2.0, 12.0), (3.0, 10.0), (2.5, 8.0), (0.0, 2.0)
_MIN_CONTRAST = 0.25  # between the two colours' brightness


def draw_textures(
    count: int, size: int, seed: tuple[int, int]
) -> Iterator[tuple[str, Image.Image]]:
    """Yield `count` square RGB images with an edge of `size`, and the name of each one's kind."""
    rng = np.random.default_rng(seed)
    kinds = list(_KINDS.items())
    for i in range(count):
        name, pattern = kinds[i % len(kinds)]
        yield name, _coloured(pattern(size, rng), rng)


def colour(rng: np.random.Generator, *, value: float) -> NDArray[np.float64]:
    """Draw an RGB colour in 0..1 of the given brightness (the V of HSV)."""
    return np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.2, 0.8), value))


def _gratings(size: int, rng: np.random.Generator) -> Pattern:
    """One or two plane waves, smooth or with hard edges."""
    waves = [
        np.sin(2 * np.pi * (across + rng.uniform()))
        for across, _ in (_rotated(size, _WAVES, rng) for _ in range(rng.integers(1, 3)))
    ]
    pattern = np.mean(waves, axis=0)
    return (np.sign(pattern) if rng.uniform() < 0.5 else pattern) / 2 + 0.5


def _weaves(size: int, rng: np.random.Generator) -> Pattern:
    """Two sets of threads, rounded by shade, that pass over one another in turn."""
    across, along = _rotated(size, _THREADS, rng)
    over = (np.floor(across) + np.floor(along)) % 2 == 0
    warp, weft = np.sin(np.pi * (across % 1)), np.sin(np.pi * (along % 1))
    return np.where(over, warp, (1 - rng.uniform(0.2, 0.8)) * weft)


def _cells(size: int, rng: np.random.Generator) -> Pattern:
    """A Voronoi diagram: every cell of one shade, or darker towards its border."""
    points = rng.uniform(0, 1, (round(rng.uniform(*_CELLS) ** 2), 2))
    rows, columns = np.mgrid[:size, :size] / size
    squares = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    if rng.uniform() < 0.5:
        return rng.uniform(0, 1, len(points))[squares.argmin(axis=2)]
    first, second = np.sqrt(np.partition(squares, 1, axis=2)[..., :2]).transpose(2, 0, 1)
    return _stretched(second - first)


def _noise(size: int, rng: np.random.Generator) -> Pattern:
    """Noise whose amplitude falls as a power of its frequency, from white to cloudy."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) * frequency ** -rng.uniform(*_SLOPE)
    return _stretched(np.fft.irfft2(spectrum, (size, size)))


_KINDS: dict[str, Callable[[int, np.random.Generator], Pattern]] = {
    "gratings": _gratings,
    "weaves": _weaves,
    "cells": _cells,
    "noise": _noise,
}


def _rotated(
    size: int, repeats: tuple[float, float], rng: np.random.Generator
) -> tuple[Pattern, Pattern]:
    """Coordinates of all pixels in a turned and moved grid of so many repeats along an edge."""
    angle, scale = rng.uniform(0, np.pi), rng.uniform(*repeats) / size
    rows, columns = np.mgrid[:size, :size] * scale
    return (
        np.cos(angle) * rows + np.sin(angle) * columns + rng.uniform(0, 8),
        np.cos(angle) * columns - np.sin(angle) * rows + rng.uniform(0, 8),
    )


def _stretched(pattern: Pattern) -> Pattern:
    """To 0..1, without the outermost hundredths."""
    low, high = np.quantile(pattern, [0.02, 0.98])
    return ((pattern - low) / (high - low)).clip(0, 1)


def _coloured(pattern: Pattern, rng: np.random.Generator) -> Image.Image:
    dark = rng.uniform(0, 1 - _MIN_CONTRAST)
    low, high = colour(rng, value=dark), colour(rng, value=rng.uniform(dark + _MIN_CONTRAST, 1))
    if rng.uniform() < 0.5:
        low, high = high, low
    pixels = np.round(255 * (low + pattern[..., None] * (high - low)))
    return Image.fromarray(pixels.astype(np.uint8))
