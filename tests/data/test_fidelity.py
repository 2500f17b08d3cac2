"""What the network sees, on untouched originals: real sizes, real JPEG encodings."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from test_prepare import data
from torchvision import transforms

from snojoe.data.archives import Archive
from snojoe.data.prepare import prepare
from snojoe.data.shards import Shards
from snojoe.training.loader import TrainSet, TrainTransform

ORIGINALS = Path(__file__).parents[3] / "shared" / "realdata" / "originals.tar"
SCALE, SIZE = (0.5, 2.0), 256


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    if not ORIGINALS.exists():
        pytest.skip(f"{ORIGINALS} is not there: the check on real originals needs it")
    return Archive(ORIGINALS, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def prepared(originals, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    settings = data(
        folder,
        id=[{"path": "originals.tar"}],
        ood={"everything": {"path": "originals.tar"}},
        splits={"train": ["VOC2007/train"], "val": ["VOC2012/val"], "test": ["VOC2007/test"]},
        image_size=SIZE,
    )
    prepare(settings, lambda source: ORIGINALS, folder / "prepared")
    return folder / "prepared"


@pytest.mark.parametrize("split", ["val", "test", "ood/everything"])
def test_evaluation_sees_the_protocols_pixels_of_every_original(originals, prepared, split):
    protocol = transforms.Resize((SIZE, SIZE))
    names = {Path(name).stem: name for name in originals if "/JPEGImages/" in name}
    count = 0
    for batch in Shards(prepared / split).batches(16):
        for image_id, pixels in zip(batch.ids, batch.pixels, strict=True):
            name = image_id if image_id in originals else names[image_id.split("/")[1]]
            original = Image.open(io.BytesIO(originals[name])).convert("RGB")
            np.testing.assert_array_equal(pixels, np.asarray(protocol(original)))
            count += 1
    assert count == len(Shards(prepared / split)) > 0


def test_train_keeps_the_bytes_of_every_original(originals, prepared):
    table = Shards(prepared / "train").table(["id", "image"])
    names = {Path(name).stem: name for name in originals if "VOC2007/JPEGImages/" in name}
    for image_id, image in zip(*(table[c].to_pylist() for c in ("id", "image")), strict=True):
        assert image == originals[names[image_id.split("/")[1]]]


def crop_of(pixels):
    """(area, aspect, flipped) of a crop from an image whose red is x and whose green is y."""
    x, y = pixels[..., 0].astype(float), pixels[..., 1].astype(float)
    width, height = (abs(c[-1, -1] - c[0, 0]) * len(c) / (len(c) - 1) for c in (x, y))
    return width * height, width / height, x[0, -1] < x[0, 0]


@pytest.fixture
def coordinates():
    """An image of VOC's usual shape that says of each pixel where it is."""
    y, x = np.mgrid[:192, :256]
    return np.stack([x, y, 0 * x], axis=2).astype(np.uint8)


def test_training_crops_have_the_protocols_distribution(coordinates):
    # Not one random stream for all, as in the protocol, but one for each (seed, epoch, index).
    draws = 1500
    transform = TrainTransform(64, SCALE, 0.5)
    mine = TrainSet.__new__(TrainSet)
    mine.images, mine.labels, mine.transform = [coordinates] * draws, torch.zeros(draws), transform
    mine.seed, mine.epoch = 0, 0
    mine.made, mine.made_in, mine.room = {}, 0, 0  # none is kept
    ours = np.array([crop_of(mine[i][0].numpy()) for i in range(draws)])

    torch.manual_seed(1)
    flip, crop = transforms.RandomHorizontalFlip(), transforms.RandomResizedCrop(64, SCALE)
    image = Image.fromarray(coordinates)
    theirs = np.array([crop_of(np.asarray(crop(flip(image)))) for _ in range(draws)])

    for what, one, other in zip(("area", "aspect"), ours.T, theirs.T, strict=False):
        assert ks_2samp(one, other).pvalue > 0.01, what
    assert abs(ours[:, 2].mean() - 0.5) < 3 * 0.5 / draws**0.5
    # Crops that do not fit are drawn again; where ten do not, the whole image is taken.
    whole = [(crops[:, 0] > 0.98 * 256 * 192).mean() for crops in (ours, theirs)]
    assert whole == pytest.approx([0.14, 0.14], abs=0.03)
