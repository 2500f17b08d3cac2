from pathlib import Path

import pytest
from conftest import write_folder

from snojoe.data.fetch import partial_download
from snojoe.data.inventory import inventory
from snojoe.params import load_params

ROOT = Path(__file__).parents[2]
PAPER = "params/paper.yaml"


@pytest.fixture
def look(tmp_path):
    """The inventory of the paper's sets in a folder, as a function."""
    params = load_params(ROOT / PAPER)
    data = params.data.model_copy(update={"folder": str(tmp_path / "archives")})
    params = params.model_copy(update={"data": data})
    return lambda: inventory(params, tmp_path / "raw", tmp_path / "downloads")


def row(text, name):
    return " ".join(next(line for line in text.splitlines() if name in line).split())


def test_what_is_missing_comes_with_size_and_where_to_get_it(look):
    text, complete = look()
    assert not complete
    assert row(text, "VOCtrainval").endswith("download 2.0 GB")
    assert row(text, "dtd-r1.0.1").endswith("download 625.2 MB")
    assert row(text, "VOC2012test").endswith("MISSING")
    assert "host.robots.ox.ac.uk:8080" in text
    assert "set data.splits.test to VOC2012/val" in " ".join(text.split())
    assert "will fetch 2.6 GB" in text
    assert len(text.splitlines()) < 24  # one screen


def test_missing_classes_are_named(look, tmp_path):
    write_folder(tmp_path / "archives/imagenet22k", {"n02069412.tar": b"", "n02431122/a.jpg": b""})
    text, complete = look()
    assert not complete
    assert "18 of 20 classes MISSING" in row(text, "ood imagenet22k")
    assert "missing n02139199, n02392434" in " ".join(text.split())
    assert "n02069412" not in text


def test_what_is_there_and_what_is_on_its_way_is_said(look, tmp_path):
    write_folder(tmp_path / "archives", {"VOC2012test.tar": bytes(2_000)})
    for name in load_params(ROOT / PAPER).data.ood["imagenet22k"].classes:
        write_folder(tmp_path / "archives/imagenet22k", {f"{name}.tar": bytes(500)})
    write_folder(tmp_path / "raw", {"VOCtrainval_11-May-2012.tar": bytes(3_000_000)})
    dtd = load_params(ROOT / PAPER).data.ood["texture"]
    write_folder(tmp_path, {"downloads/x": b""})
    partial_download(tmp_path / "downloads", dtd.sha256).write_bytes(bytes(1_500))
    text, complete = look()
    assert complete
    assert row(text, "VOC2012test").endswith("there 2.0 kB")
    assert row(text, "imagenet22k").endswith("there 10.0 kB")
    assert row(text, "VOCtrainval").endswith("there 3.0 MB")
    assert "download, 1.5 kB has arrived 625.2 MB" in row(text, "dtd-r1.0.1")
