"""``--engine onnx``: ONNX Runtime computes what PyTorch does, and its graphs are kept."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import model_folder
from PIL import Image
from test_scores import SCORES, write_detectors

import snojoe
from snojoe.cli import main
from snojoe.detect import export, onnx_network
from snojoe.detect.onnx_network import cache_folder, under_onnx_runtime
from snojoe.experiment import Folders
from snojoe.model.own_network import OwnClassifier
from snojoe.support.errors import SnojoeError

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")

ODD = 19  # no multiple of a batch


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Of this module's own, and not that of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache_folder()


@pytest.fixture(scope="module")
def models(tmp_path_factory, cache):
    """Two, whose graphs are in the cache whichever test comes first."""
    folders = Folders(tmp_path_factory.mktemp("project"))
    for seed in (0, 1):
        model_folder(folders.model(9, seed), seed)
        write_detectors(folders.model(9, seed), folders.detectors_of(9, seed), 0.4)
    paths = [folders.model(9, seed) for seed in (0, 1)]
    snojoe.load_detector(paths, engine="onnx")
    return paths


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20 + i, 30, 3), np.uint8) for i in range(ODD)]


@pytest.fixture
def not_exported(monkeypatch):
    def to_onnx(*arguments):
        raise AssertionError("exported")

    monkeypatch.setattr(export, "to_onnx", to_onnx)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("several", [False, True])
def test_it_finds_what_pytorch_finds(models, images, score, several):
    paths = models if several else models[0]
    expected, found = (
        snojoe.load_detector(paths, score=score, engine=engine)(images)
        for engine in ("torch", "onnx")
    )
    assert len(found) == ODD
    for one, other in zip(found, expected, strict=True):
        assert one.in_distribution == other.in_distribution
        assert one.energy == pytest.approx(other.energy, abs=1e-4)
        assert one.score == pytest.approx(other.score, rel=1e-4, abs=1e-4)
        assert one.p_value == other.p_value


def test_any_number_of_images(models, images):
    detector = snojoe.load_detector(models[0], engine="onnx")
    assert detector([]) == []
    assert detector(images[:1])[0].energy == pytest.approx(detector(images)[0].energy, abs=1e-4)


def test_the_second_time_nothing_is_exported(models, images, not_exported, capsys):
    snojoe.load_detector(models[0], engine="onnx")(images[:2])
    assert capsys.readouterr().err == ""


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def network(models):
    return snojoe.load_detector(models[0]).models[0]


def ready(network, image_size, digest="a"):
    return under_onnx_runtime(network, image_size, "seed0", digest)


def test_what_is_made_is_kept_and_what_is_damaged_made_again(network, own_cache, capsys):
    ready(network, 16)
    assert capsys.readouterr().err == "seed0: is made ready for ONNX Runtime\n"
    (kept,) = own_cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    ready(network, 16)
    assert kept.read_bytes() == whole
    assert "is made ready" in capsys.readouterr().err


def test_another_networks_graph_under_this_ones_name_is_made_again(network, models, own_cache):
    ready(snojoe.load_detector(models[1]).models[0], 16)
    (kept,) = own_cache.iterdir()
    others = kept.read_bytes()
    images = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(ready(network, 16)(images), network(images))
    assert kept.read_bytes() != others


@pytest.mark.parametrize("of_the_user", ["file", "~nobody_of_that_name", 300 * "x"])
def test_a_cache_that_cannot_be_written_is_done_without(
    network, tmp_path, monkeypatch, of_the_user
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", of_the_user)
    images = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(ready(network, 16)(images), network(images))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_graph_that_differs_is_not_used(network, own_cache, monkeypatch):
    monkeypatch.setattr(onnx_network, "_difference", lambda *pair: 2e-4)
    with pytest.raises(SnojoeError, match=r"seed0: ONNX Runtime differs from PyTorch by 2\.0e-04"):
        ready(network, 16)
    assert not own_cache.exists()


def own_classifier(head):
    network = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 5)
    )
    return OwnClassifier(network.eval(), head, None, order=[4, 0, 1])


@pytest.mark.parametrize("head", ["2", None])
def test_a_network_of_ones_own_with_and_without_a_linear_head(head, own_cache):
    own, images = own_classifier(head), torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        expected = own.outputs(images)
    for found, outputs in zip(ready(own, 16).outputs(images), expected, strict=True):
        torch.testing.assert_close(found, outputs)
    assert expected.hidden.shape[1] == (12 if head else 0)


class Branching(torch.nn.Module):
    """What it computes depends on numbers, which no graph holds."""

    def forward(self, images):
        return images.mean(dim=(2, 3)) * (2 if float(images.sum()) > 0 else 3)


class Counting(torch.nn.Module):
    """Its number of images is taken for a number by the exporter."""

    def forward(self, images):
        return images.mean(dim=(2, 3)) + torch.zeros(len(images), 3)


@pytest.mark.parametrize("network", [Branching(), Counting()])
def test_what_cannot_be_exported_is_named(network, own_cache):
    with pytest.raises(
        SnojoeError, match=r"seed0: ONNX Runtime cannot run it \(.+\); expected engine torch"
    ):
        ready(OwnClassifier(network, None, None), 16)
    assert not own_cache.exists()


def test_what_takes_a_gradient_is_refused(tmp_path):
    model = model_folder(tmp_path / "own")
    write_detectors(model, model / "scores", 0.5, scores=("odin",), eps=0.002)
    with pytest.raises(SnojoeError, match=r"odin was tuned to input noise \(0\.002\).*torch"):
        snojoe.load_detector(model, score="odin", engine="onnx")


def test_another_engine_is_refused(models):
    with pytest.raises(SnojoeError, match="engine: expected one of torch, onnx; got 'tensorrt'"):
        snojoe.load_detector(models[0], engine="tensorrt")


def test_without_the_extra_its_name_is_told(models, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    options = ["--engine", "onnx", "--model", str(models[0])]
    assert main(["detect", str(tmp_path / "a.png"), *options]) == 2
    assert "pip install -e '.[onnx]'" in capsys.readouterr().err


def test_the_command_and_the_function_of_batches_take_it(models, tmp_path, not_exported, capsys):
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 20), "orange").save(path)
    options = ["--engine", "onnx", "--model", str(models[0]), "--format", "json"]
    assert main(["detect", str(path), *options]) in (0, 1)
    (line,) = json.loads(capsys.readouterr().out)
    batch = {"bytes": np.array([path.read_bytes()], object)}
    found = snojoe.BatchDetector(models[0], engine="onnx")(batch)
    assert found["energy"][0] == pytest.approx(line["energy"], abs=1e-3)
