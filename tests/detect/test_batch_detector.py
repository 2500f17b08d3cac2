import csv
import io
import pickle
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import jpeg, model_folder, write_folder
from PIL import Image

import snojoe
from snojoe.cli import main
from snojoe.support.errors import SnojoeError

TURNED = 6  # EXIF: to be turned by 90 degrees


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def odd_images():
    """Files that are easily decoded wrongly, and two that are none."""
    rng = np.random.default_rng(7)
    pixels = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = TURNED
    faded = pixels.copy()
    faded.putalpha(Image.linear_gradient("L").resize(pixels.size))
    return {
        "cmyk.jpg": encoded(pixels.convert("CMYK"), "JPEG"),
        "empty.png": b"",
        "grey16.png": encoded(Image.fromarray(rng.integers(0, 2**16, (30, 40), np.uint16))),
        "palette.png": encoded(pixels.quantize(8), transparency=2),
        "text.jpg": b"not an image",
        "transparent.png": encoded(faded),
        "turned.jpg": encoded(pixels, "JPEG", exif=exif),
        **{f"usual{i:02d}.jpg": jpeg(i) for i in range(20)},
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [model_folder(root / f"seed{seed}", seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("photos"), odd_images())


@pytest.fixture
def batch(photos):
    """As Ray's read_binary_files gives it."""
    files = sorted(photos.iterdir())
    content = np.array([file.read_bytes() for file in files], object)
    return {"bytes": content, "path": np.array([*map(str, files)])}


def as_detect_writes(photos, models, capsys):
    main(["detect", str(photos), "--model", *map(str, models), "--format", "csv"])
    return [*csv.DictReader(capsys.readouterr().out.splitlines(), restval="")]


def as_csv(value):
    """A cell as `snojoe detect --format csv` writes it."""
    if isinstance(value, np.bool_):
        return str(value).lower()
    if isinstance(value, np.floating):
        return "" if np.isnan(value) else str(round(float(value), 6))
    return str(value)


@pytest.mark.parametrize("several", [False, True])
def test_it_is_what_detect_writes_as_csv(batch, photos, models, several, capsys):
    models = models[: 1 + several]
    expected = as_detect_writes(photos, models, capsys)
    found = snojoe.BatchDetector(models)(batch)
    assert [*found] == ["path", *[name for name in expected[0] if name != "image"]]
    assert list(found["path"]) == [row["image"] for row in expected]
    constant = {"path", "score_name", "tau"}  # of an image without result, CSV leaves them empty
    for name in found.keys() - constant:
        assert [*map(as_csv, found[name])] == [row[name] for row in expected], name
    assert {*found["score_name"]} == {"joint_energy"}
    assert {*map(as_csv, found["tau"])} == {row["tau"] for row in expected} - {""}


def test_an_image_that_cannot_be_used_harms_no_other(batch, models):
    found = snojoe.BatchDetector(models[0])(batch)
    bad = [path.rsplit("/", 1)[1] for path in found["path"][found["error"] != ""]]
    assert bad == ["empty.png", "text.jpg"]
    assert {*found["error"]} == {"", "empty", "not an image of a known format"}
    assert not found["in_distribution"][found["error"] != ""].any()
    assert np.isfinite(found["energy"]).sum() == len(batch["path"]) - 2


def test_contents_paths_and_pixels_are_the_same_images(models, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), np.uint8)
    contents = [encoded(Image.fromarray(each)) for each in pixels]
    folder = write_folder(tmp_path, {f"{i}.png": each for i, each in enumerate(contents)})
    paths = [str(folder / f"{i}.png") for i in range(5)]
    columns = {
        "content": np.fromiter(map(bytearray, contents), object),
        "path": np.array(paths, object),
        "image": pixels,
    }
    found = {name: snojoe.BatchDetector(models[0], name) for name in columns}
    energies = {name: found[name]({name: columns[name]})["energy"] for name in columns}
    np.testing.assert_array_equal(energies["content"], energies["path"])
    np.testing.assert_array_equal(energies["content"], energies["image"])
    kept = {name: [*found[name](columns)][:3] for name in columns}
    assert kept == {
        "content": ["path", "image", "error"],
        "path": ["content", "path", "image"],  # names of images are for whoever reads the result
        "image": ["content", "path", "error"],
    }


def test_a_batch_may_be_empty(models):
    found = snojoe.BatchDetector(models[0])({"bytes": np.array([], object)})
    assert {len(column) for column in found.values()} == {0}
    assert found["in_distribution"].dtype == bool
    assert found["energy"].dtype == float


def test_options_are_those_of_load_detector(batch, models):
    strict = snojoe.load_detector(models[0], accept=0.5)
    found = snojoe.BatchDetector(models[0], accept=0.5)(batch)
    assert {*found["tau"]} == {strict.decision.tau}
    with pytest.raises(SnojoeError, match="accept: expected a share"):
        snojoe.BatchDetector(models[0], accept=2)(batch)
    with pytest.raises(SnojoeError, match="knn needs its stored detector"):
        snojoe.BatchDetector(models[0], score="knn")(batch)


def test_columns_that_do_not_fit_are_named(batch, models):
    with pytest.raises(SnojoeError, match=r"column: .*\(bytes, path\); got 'image'"):
        snojoe.BatchDetector(models[0], "image")(batch)
    with pytest.raises(SnojoeError, match="labels, score: expected no such column in the batch"):
        snojoe.BatchDetector(models[0])({**batch, "score": batch["path"], "labels": batch["path"]})


def test_models_do_not_travel_and_are_loaded_once(batch, models, monkeypatch):
    detector = snojoe.BatchDetector(models[0])
    expected = detector(batch)
    content = pickle.dumps(detector)
    assert len(content) < 1000
    from snojoe.detect import image_detector

    loads = []
    load = image_detector.load_detector
    monkeypatch.setattr(
        image_detector, "load_detector", lambda *a, **k: loads.append(a) or load(*a, **k)
    )
    arrived = pickle.loads(content)
    assert loads == []
    for _ in range(2):
        np.testing.assert_array_equal(arrived(batch)["energy"], expected["energy"])
    assert len(loads) == 1


def test_a_worker_decodes_in_its_share_of_the_cores(batch, models):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        detector = snojoe.BatchDetector(models[0])
        detector(batch)
        assert detector._detector.decoding_threads == 1
    finally:
        torch.set_num_threads(threads)


def test_it_is_made_without_torch_and_path_is_made_absolute(tmp_path):
    code = (
        "import pickle, sys, snojoe; detector = snojoe.BatchDetector('seed0'); "
        "pickle.dumps(detector); print('torch' in sys.modules, *detector.paths)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert printed == f"False {tmp_path / 'seed0'}\n"


def test_the_guides_function_for_spark_takes_the_frames_of_a_partition(batch, models):
    """Spark is no dependency: what stands for it pickles, and hands over frames as it does."""
    page = (Path(__file__).parents[2] / "docs/scale-out.md").read_text(encoding="utf-8")
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "spark." in b)
    given = {"spark": MagicMock()}
    exec(code.replace("/models/seed0", str(models[0])), given)
    given["detector"] = pickle.loads(pickle.dumps(given["detector"]))
    files = pd.DataFrame({"path": batch["path"], "length": 0, "content": [*batch["bytes"]]})
    parts = [files[:16], files[16:]]  # of a frame's part the index does not begin at 0
    found = pd.concat(given["detect"](iter(parts)))
    expected = snojoe.BatchDetector(models[0])(batch)
    for name in given["names"]:
        assert found[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True), name
    kinds = {"string": "object str", "boolean": "bool", "double": "float64"}
    for field in given["schema"].split(", "):
        name, kind = field.split()
        assert str(found[name].dtype) in kinds[kind].split(), name
