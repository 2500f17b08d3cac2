import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import jpeg, model_folder
from PIL import Image

import snojoe
from snojoe.data.images import ImageError, decode, to_square
from snojoe.detect.image_files import image_files
from snojoe.model.folder import load_model
from snojoe.model.pixels import normalise
from snojoe.model.preprocessing import preprocessing
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_sums


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return [
        model_folder(tmp_path_factory.mktemp("models") / f"seed{seed}", seed) for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def detector(models):
    return snojoe.load_detector(models[0])


def pixels(seed, shape=(30, 40, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_files_pil_images_arrays_and_tensors_are_the_same_image(detector, tmp_path):
    array = pixels(0)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    found = detector([path, str(path), Image.open(path), array, tensor])
    assert [each.energy for each in found] == pytest.approx([found[0].energy] * 5, rel=1e-6)


def test_grey_arrays_are_as_grey_files(detector, tmp_path):
    grey = pixels(0, (30, 40))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    tensor = torch.from_numpy(grey)
    found = detector([tmp_path / "grey.png", grey, grey[..., None], tensor, tensor[None]])
    assert [each.energy for each in found] == pytest.approx([found[0].energy] * 5, rel=1e-6)


def test_detection_sees_what_evaluation_sees(detector, models):
    model, _ = load_model(Path(models[0]))
    with torch.no_grad():
        pixels = to_square(decode(jpeg(3)), preprocessing(16))
        expected = model(normalise(torch.from_numpy(pixels.copy()[None])))
    (found,) = detector([decode(jpeg(3))])
    np.testing.assert_allclose(list(found.probabilities.values()), expected.sigmoid()[0], rtol=1e-5)
    assert found.energy == pytest.approx(torch.nn.functional.softplus(expected).sum().item(), 1e-5)


def test_the_order_is_kept_and_bad_images_harm_no_other(detector, tmp_path):
    images = [pixels(seed) for seed in range(40)]
    alone = [detector([image])[0].energy for image in images[:3]]
    mixed = [images[0], tmp_path / "gone.jpg", images[1], pixels(0, (4, 4, 4)), *images[2:]]
    results = list(detector.stream(iter(mixed)))
    assert [given for given, _ in results] == mixed
    assert [i for i, (_, found) in enumerate(results) if isinstance(found, ImageError)] == [1, 3]
    energies = [found.energy for _, found in results if not isinstance(found, ImageError)]
    np.testing.assert_allclose(energies[:3], alone, rtol=1e-5)


def test_a_list_with_a_bad_image_names_it(detector, tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        detector([pixels(0), tmp_path / "gone.jpg"])
    with pytest.raises(
        ImageError, match=r"image 1: expected a \(3, H, W\), .* uint8 tensor; got float32"
    ):
        detector([pixels(0), torch.zeros(3, 8, 8)])
    with pytest.raises(ImageError, match=r"expected a \(H, W, 3\), .* uint8 array; .* \(3, 8, 8\)"):
        detector([np.zeros((3, 8, 8), np.uint8)])


def test_a_single_image_is_refused(detector):
    with pytest.raises(TypeError, match=r"expected several images, such as \[image\]"):
        detector("a.jpg")


def test_a_users_image_is_left_as_it_was(detector):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels(0))
    image.info["exif"] = exif.tobytes()
    before = image.copy()
    detector([image])
    assert image == before


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "a folder without images"),
        (lambda path: path.symlink_to("gone.jpg"), "a broken link to gone.jpg"),
        (lambda path: path.symlink_to(path), "a broken link"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(jpeg()[:-200]), "truncated"),
        (lambda path: path.write_text("hello"), "not an image of a known format"),
    ],
)
def test_what_cannot_be_read_says_why(detector, tmp_path, make, reason):
    path = tmp_path / "a.jpg"
    make(path)
    with pytest.raises(ImageError, match=reason):
        detector([path])


def test_a_name_that_is_too_long_is_reported(detector):
    with pytest.raises(ImageError, match="too long"):
        detector(["a" * 5000])


def test_the_images_are_taken_as_they_are_needed(detector):
    taken = []
    stream = detector.stream(taken.append(i) or pixels(i) for i in range(1000))
    next(stream)
    stream.close()
    assert len(taken) <= 64


def test_several_models_give_mean_and_spread(models):
    one, two = (snojoe.load_detector(model)([pixels(0)])[0] for model in models)
    (both,) = snojoe.load_detector(models)([pixels(0)])
    assert both.energy == pytest.approx((one.energy + two.energy) / 2, rel=1e-6)
    assert both.energy_std == pytest.approx(abs(one.energy - two.energy) / 2**0.5, rel=1e-4)


def test_a_copied_directory_works_without_anything_else(models, tmp_path):
    shutil.copytree(models[0], tmp_path / "elsewhere")
    Image.fromarray(pixels(0)).save(tmp_path / "a.png")
    code = "import snojoe; print(snojoe.load_detector('elsewhere')(['a.png'])[0].energy)"
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    expected = snojoe.load_detector(models[0])([pixels(0)])[0].energy
    assert float(printed) == pytest.approx(expected, rel=1e-6)


def change(folder, target, **changes):
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    for key, value in changes.items():
        if value is None:
            del config[key]
        else:
            config[key] = value
    (target / "config.json").write_text(json.dumps(config))
    write_sums(target)
    return target


def test_a_directory_that_is_no_detector_is_named(models, tmp_path):
    with pytest.raises(SnojoeError, match="gone: not a model directory"):
        snojoe.load_detector(tmp_path / "gone")
    with pytest.raises(
        SnojoeError, match=r"old: not a model to detect with \(config.json lacks val"
    ):
        snojoe.load_detector(change(models[0], tmp_path / "old", val=None))
    other = preprocessing(16).model_dump() | {"resize": "bicubic"}
    with pytest.raises(SnojoeError, match="cubic: this version has no such preprocessing"):
        snojoe.load_detector(change(models[0], tmp_path / "cubic", preprocessing=other))
    with pytest.raises(SnojoeError, match="expected at least one model directory"):
        snojoe.load_detector([])


def test_the_package_imports_without_torch():
    code = "import sys, snojoe; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_kind_of_file_in_a_folder_is_detected_or_reported(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400_000)
    noise = Image.fromarray(pixels(0))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "alpha.png": (noise.convert("RGBA"), {}),
        "animated.gif": (noise, {"save_all": True, "append_images": [noise.rotate(90)]}),
        "bomb.png": (Image.new("1", (700, 700)), {}),
        "cmyk.jpg": (noise.convert("CMYK"), {}),
        "grey16.png": (Image.fromarray(pixels(1)[..., 0].astype(np.uint16) * 257), {}),
        "long.png": (noise.resize((30_000, 10)), {}),
        "palette.png": (noise.convert("P"), {}),
        "pixel.png": (noise.resize((1, 1)), {}),
        "rotated.jpg": (noise, {"exif": exif}),
    }
    for name, (image, options) in files.items():
        image.save(tmp_path / name, **options)
    (tmp_path / "page.jpg").write_text("<html></html>")
    (tmp_path / "truncated.jpg").write_bytes(jpeg()[:-200])
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    results = dict(detector.stream(image_files([str(tmp_path)])))
    reasons = {
        Path(path).name: str(found)
        for path, found in results.items()
        if isinstance(found, ImageError)
    }
    assert len(results) == len(files) + 4
    assert reasons == {
        "bomb.png": "more pixels than PIL's limit (a decompression bomb?)",
        "link.jpg": "a broken link to gone.jpg",
        "page.jpg": "not an image of a known format",
        "truncated.jpg": reasons["truncated.jpg"],
        "zero.jpg": "empty",
    }
    assert "truncated" in reasons["truncated.jpg"]
