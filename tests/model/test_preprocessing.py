"""What is done to an image: as timm and torchvision do it, and as it travels with a model."""

import numpy as np
import pytest
import torch
from conftest import jpeg
from torchvision import models as zoo

from snojoe.data.images import ImageError, decode, to_square
from snojoe.data.preprocessing import preprocessing_of
from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.data.weights import preprocessing_hint
from snojoe.model.described import described_preprocessing
from snojoe.model.pixels import normalise
from snojoe.model.preprocessing import Resize, preprocessing, read_resize
from snojoe.params import PreprocessingParams, load_params
from snojoe.support.errors import SnojoeError

SIZES = [(320, 240), (240, 320), (301, 222), (64, 500), (100, 100)]
HOW = [
    Resize(i, a, c) for i in ("bilinear", "bicubic") for a in (True, False) for c in (0.875, 1.0)
]


@pytest.mark.parametrize("resize", HOW, ids=str)
def test_a_resize_is_read_back_from_its_text(resize):
    assert read_resize(str(resize)) == resize


def test_the_protocols_text_is_that_of_every_earlier_model():
    assert preprocessing(32).resize == "bilinear, antialiased, aspect not kept"


@pytest.mark.parametrize("text", ["bicubic", "lanczos, antialiased, aspect kept", ""])
def test_an_unknown_resize_is_refused(text):
    with pytest.raises(ValueError, match="no such resize"):
        read_resize(text)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "name",
    ["tf_efficientnet_lite0", "vit_tiny_patch16_224", "dm_nfnet_f0", "resnet18.a1_in1k", "vgg11"],
)
def test_pixels_are_those_of_timm(name, size):
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config | {"input_size": (3, 64, 64)})
    image = decode(jpeg(1, size))
    made = described_preprocessing(f"timm/{name}", 64)
    found = normalise(torch.from_numpy(to_square(image, made).copy())[None], made.mean, made.std)
    torch.testing.assert_close(found[0], transform(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet50.IMAGENET1K_V1", "resnet50.IMAGENET1K_V2"])
def test_pixels_are_those_of_torchvision(name, size):
    network, weights = name.split(".")
    transform = zoo.get_model_weights(network)[weights].transforms()
    image = decode(jpeg(1, size))
    made = described_preprocessing(f"torchvision/{name}", 224)
    found = normalise(torch.from_numpy(to_square(image, made).copy())[None], made.mean, made.std)
    torch.testing.assert_close(found[0], transform(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/no_such", "timm describes no 'no_such'"),
        ("timm/vgg11.no_such", r"timm describes no 'vgg11\.no_such'"),
        ("torchvision/resnet50.V9", r"torchvision describes no 'resnet50\.V9'"),
        ("torchvision/nothing", "torchvision describes no 'nothing'"),
    ],
)
def test_what_nobody_describes_is_named(name, message):
    pytest.importorskip("timm")
    with pytest.raises(SnojoeError, match=f"data.preprocessing: {message}"):
        described_preprocessing(name, 64)


def test_an_endless_image_is_refused():
    image = decode(jpeg(0, (4000, 1)))
    assert to_square(image, preprocessing(32)).shape == (32, 32, 3)
    with pytest.raises(ImageError, match="too long to be resized: 4000 x 1"):
        to_square(image, preprocessing(320, Resize(aspect_kept=True)))


def test_shards_say_what_is_not_the_protocols(tmp_path):
    made = preprocessing(8, Resize("bicubic", True, 0.875), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    rows = [ShardRow("a", jpeg(0), np.array([1], np.uint8))]
    for name, asked in (("other", made), ("same", preprocessing(8)), ("none", None)):
        write_shards(
            tmp_path / name, rows, split="train", content="image", image_size=8, made=asked
        )
    assert Shards(tmp_path / "other").preprocessing == made
    assert Shards(tmp_path / "none").preprocessing == preprocessing(8)
    files = [(tmp_path / name / "00000.arrow").read_bytes() for name in ("same", "none")]
    assert files[0] == files[1]
    (batch,) = Shards(tmp_path / "other").batches(1)
    assert (batch.pixels[0] == to_square(decode(jpeg(0)), made)).all()


def test_what_the_parameters_ask_for():
    data = load_params("params.yaml").data
    assert preprocessing_of(data) == preprocessing(32)
    own = PreprocessingParams(mean=[0, 0, 0], std=[1.0, 1.0, 1.0], aspect_kept=True, crop=0.9)
    found = preprocessing_of(data.model_copy(update={"preprocessing": own}))
    assert found == preprocessing(32, Resize("bilinear", True, 0.9), (0, 0, 0), (1, 1, 1))
    named = data.model_copy(update={"preprocessing": "torchvision/resnet18.IMAGENET1K_V1"})
    assert preprocessing_of(named).resize == "bilinear, antialiased, aspect kept, central 0.875"


def test_other_statistics_than_the_networks_are_said():
    pytest.importorskip("timm")
    params = load_params("params.yaml")
    arch = "timm/tf_efficientnet_lite0"
    model = params.model.model_copy(update={"arch": arch, "weights": "in1k"})
    params = params.model_copy(update={"model": model})
    hint = preprocessing_hint(params)
    assert hint is not None
    assert f"`preprocessing: {arch}.in1k`" in hint
    data = params.data.model_copy(update={"preprocessing": f"{arch}.in1k"})
    assert preprocessing_hint(params.model_copy(update={"data": data})) is None
    random = model.model_copy(update={"weights": None})
    assert preprocessing_hint(params.model_copy(update={"model": random})) is None
