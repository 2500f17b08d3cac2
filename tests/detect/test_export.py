import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import model_folder
from PIL import ExifTags, Image

import snojoe
from snojoe.cli import main
from snojoe.data.archives import Archive
from snojoe.data.images import decode
from snojoe.detect.export import (
    TOLERANCE,
    _half,
    detector_module,
    evaluate,
    export_onnx,
    largest_difference,
    run,
)
from snojoe.model.preprocessing import Resize, preprocessing
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_sums

ort = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")

ORIGINALS = Path(__file__).parents[3] / "shared" / "realdata" / "originals.tar"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("models") / "seed0")


@pytest.fixture(scope="module")
def detector(folder):
    return snojoe.load_detector(folder)


@pytest.fixture(scope="module")
def session(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    assert export_onnx(folder, target, 0.95) <= TOLERANCE
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]
    return ort.InferenceSession(target)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (37, 53), (3000, 10), (10, 3000), (480, 640)])
def test_equal_images_give_what_pytorch_gives(detector, session, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    expected = evaluate(detector_module(detector), image)
    assert largest_difference(expected, run(session, image)) <= TOLERANCE


def test_the_decision_and_the_names_are_in_the_file(detector, session):
    image = np.zeros((20, 30, 3), np.uint8)
    probabilities, energy, in_distribution, score, p_value = session.run(None, {"image": image})
    (expected,) = detector([image])
    assert score == pytest.approx(energy)
    assert p_value == pytest.approx(expected.p_value)
    assert probabilities.shape == (3,)
    assert energy.shape == in_distribution.shape == ()
    assert in_distribution == expected.in_distribution
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["cat", "dog", "cow"]
    assert float(metadata["tau"]) == detector.decision.tau
    assert json.loads(metadata["label_thresholds"]) == detector.decision.label_thresholds.tolist()


def test_photographs_give_nearly_what_the_pil_path_gives(detector, session, tmp_path):
    if not ORIGINALS.exists():
        pytest.skip(f"{ORIGINALS} is not there: the check on real photographs needs it")
    archive = Archive(ORIGINALS, tmp_path)
    names = [name for name in archive if name.endswith(".jpg")][::8]
    photos = [np.asarray(decode(archive[name])) for name in names]
    differences = []
    for photo, expected in zip(photos, detector(photos), strict=True):
        probabilities, energy, *_ = session.run(None, {"image": photo})
        found = np.array([*probabilities, energy])
        differences.append(found - [*expected.probabilities.values(), expected.energy])
    # PIL rounds to whole pixel values, twice.
    assert len(differences) >= 25
    assert np.abs(differences).max() < 0.02
    assert np.abs(differences).mean() < 0.005


def test_a_file_that_differs_is_not_written(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("snojoe.detect.export.largest_difference", lambda *arguments: 2e-4)
    with pytest.raises(SnojoeError, match=r"m\.onnx: differs from PyTorch by 2\.0e-04"):
        export_onnx(folder, tmp_path / "m.onnx", 0.95)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_its_name_is_told(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", "--onnx", str(tmp_path / "m.onnx"), "--model", str(folder)]) == 2
    assert "pip install -e '.[onnx]'" in capsys.readouterr().err


@pytest.mark.parametrize("number", range(8))
def test_halves_are_rounded_as_pil_centres_are(number):
    assert _half(number) == round(number / 2)


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (400, 300)])
def test_a_kept_aspect_and_other_statistics_are_in_the_file(tmp_path, size, wide_session):
    folder, session = wide_session
    detector = snojoe.load_detector(folder)
    noise = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    image = np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC))
    expected = evaluate(detector_module(detector), image)
    found = run(session, image)
    assert largest_difference(expected, found) <= TOLERANCE
    (by_pil,) = detector([image])
    np.testing.assert_allclose(found[1], by_pil.energy, atol=0.02)  # PIL rounds, twice


@pytest.fixture(scope="module")
def wide_session(tmp_path_factory):
    """A model of another preprocessing, exported."""
    folder = model_folder(tmp_path_factory.mktemp("wide") / "seed0")
    made = preprocessing(16, Resize("bicubic", True, 0.75), (0.5, 0.4, 0.3), (0.2, 0.3, 0.5))
    config = json.loads((folder / "config.json").read_text())
    config["preprocessing"] = made.model_dump(mode="json")
    (folder / "config.json").write_text(json.dumps(config))
    write_sums(folder)
    target = folder.parent / "model.onnx"
    assert export_onnx(folder, target, 0.95) <= TOLERANCE
    return folder, ort.InferenceSession(target)


ROOT = Path(__file__).parents[2]


def saved(path, mode, orientation):
    """An image whose right and left differ, with an EXIF orientation."""
    pixels = np.zeros((24, 40, 4), np.uint8)
    pixels[:12, :10] = (255, 0, 0, 255)
    pixels[..., 3] = 255
    pixels[16:, 20:, 3] = 90
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).convert(mode).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.png", "RGBA"), ("a.png", "P")])
def test_the_recipe_of_the_guide_decodes_as_detect_does(
    session, tmp_path, monkeypatch, name, mode, orientation
):
    guide = (ROOT / "docs/detector.md").read_text(encoding="utf-8")
    (recipe,) = (
        part.split("```")[0] for part in guide.split("```python\n") if "def pixels" in part
    )
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.jpg", "RGB", 1)
    saved(tmp_path / name, mode, orientation)
    monkeypatch.setattr(ort, "InferenceSession", lambda _: session)
    names = {}
    exec(recipe, names)
    np.testing.assert_array_equal(names["pixels"](name), np.asarray(decode(tmp_path / name)))
    assert names["classes"] == ["cat", "dog", "cow"]
    assert names["probabilities"].shape == (3,)
