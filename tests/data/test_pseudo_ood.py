import numpy as np
import pytest

from snojoe.data.pseudo_ood import PSEUDO_OOD, TILES, arithmetic_mean, geometric_mean, jigsaw


def images(n=3, side=18):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("name", PSEUDO_OOD)
def test_every_image_differs_from_its_source(name):
    source = images()
    made = PSEUDO_OOD[name](source, rng())
    assert made.shape == source.shape
    assert made.dtype == np.uint8
    assert (made != source).mean(axis=(1, 2, 3)).min() > 0.5


@pytest.mark.parametrize("name", PSEUDO_OOD)
def test_the_source_is_left_alone(name):
    source = images()
    PSEUDO_OOD[name](source, rng())
    assert (source == images()).all()


@pytest.mark.parametrize("name", PSEUDO_OOD)
def test_the_same_seed_gives_the_same_images(name):
    assert (PSEUDO_OOD[name](images(), rng()) == PSEUDO_OOD[name](images(), rng())).all()


@pytest.mark.parametrize("name", ["gaussian_noise", "uniform_noise"])
def test_noise_spans_the_range_of_a_byte(name):
    noise = PSEUDO_OOD[name](np.zeros((2, 64, 64, 3), np.uint8), rng())
    assert noise.mean() == pytest.approx(127.5, abs=2)
    assert (noise.min(), noise.max()) == (0, 255)


def test_means_are_of_two_images():
    dark, light = np.full((4, 4, 3), 50, np.uint8), np.full((4, 4, 3), 200, np.uint8)
    pair = np.stack([dark, light])
    assert (arithmetic_mean(pair, rng()) == 125).all()
    assert (geometric_mean(pair, rng()) == 100).all()


def tiles(image):
    side = len(image) // TILES
    return [
        image[y * side : (y + 1) * side, x * side : (x + 1) * side].tobytes()
        for y in range(TILES)
        for x in range(TILES)
    ]


def test_jigsaw_moves_every_tile_and_loses_none():
    for source, puzzle in zip(images(), jigsaw(images(), rng()), strict=True):
        before, after = tiles(source), tiles(puzzle)
        assert sorted(after) == sorted(before)
        assert all(a != b for a, b in zip(before, after, strict=True))


def test_jigsaw_leaves_what_no_tile_covers():
    puzzle = jigsaw(images(side=18), rng())
    assert (puzzle[:, 16:] == images()[:, 16:]).all()
    assert (puzzle[:, :, 16:] == images()[:, :, 16:]).all()


def test_one_image_has_no_other():
    with pytest.raises(ValueError, match="images must be two at least, got 1"):
        arithmetic_mean(images(1), rng())
