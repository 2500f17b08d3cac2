import re
from pathlib import Path

import pytest
import torch
from conftest import jpeg, write_folder

from snojoe.data.fetch import partial_download
from snojoe.data.inventory import inventory
from snojoe.params import Data, load_params

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
    assert not complete  # zeros are no labelled images
    assert "error: " in text
    assert row(text, "VOC2012test").endswith("there 2.0 kB")
    assert row(text, "imagenet22k").endswith("there 10.0 kB")
    assert row(text, "VOCtrainval").endswith("there 3.0 MB")
    assert "download, 1.5 kB has arrived 625.2 MB" in row(text, "dtd-r1.0.1")


TABLE = """file,labels,split
a.jpg,cat;dog,train
b.jpg,-,train
c.jpg,Cat,val
d.jpg,cat,test
"""


@pytest.fixture
def own(tmp_path):
    """The inventory of a table and a set of other images, as a function of the table."""
    images = {f"pets/{name}.jpg": jpeg(i) for i, name in enumerate("abcd")}
    other = {"other/x/1.jpg": b"not decoded", "other/x/2.psd": b"", "other/._1.jpg": b""}
    write_folder(tmp_path, images | other | {"pets/notes.txt": b""})
    params = load_params(ROOT / "params.yaml")
    values = params.data.model_dump() | {
        "folder": str(tmp_path),
        "id": [{"path": "pets"}],
        "ood": {"other": {"path": "other"}, "later": {"embedded": "textures"}},
        "splits": {split: [f"pets/{split}"] for split in ("train", "val", "test")},
    }
    params = params.model_copy(update={"data": Data.model_validate(values)})

    def look(table):
        write_folder(tmp_path, {"pets/labels.csv": table.encode()})
        return inventory(params, tmp_path / "data/raw", tmp_path / "downloads")

    return look


def test_labels_are_read_as_preprocess_does(own):
    text, complete = own(TABLE)
    assert complete
    assert row(text, "class") == "class train val test"
    assert row(text, "cat ") == "cat 1 0 1"
    assert row(text, "(none of them)") == "(none of them) 1 0 0"
    assert row(text, "images  ") == "images 2 1 1"
    assert "ood other: 1 images" in text
    assert "ood/other: left out: 1 .psd files (x/2.psd), 1 hidden files (._1.jpg)" in text
    assert "pets: left out: 1 .txt files (notes.txt)" in text
    assert "train: no image is positive for Cat: nothing can be learnt of it" in text
    assert "images that show none of the classes: 1 of train" in text


def test_what_preprocess_would_refuse_is_refused(own):
    text, complete = own(TABLE + "e.jpg,cat,test\n")
    assert not complete
    assert "labels.csv: line 6: no such file 'e.jpg'" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "resnet18", "weights": "w.pth"}, r"w\.pth: does not fit resnet18 \(.* missing"),
        ({"arch": "timm/no_such", "weights": None}, r"model\.arch: timm .* has no network"),
        ({"arch": "timm/test_vit", "weights": None}, r"data\.image_size: timm/test_vit does not"),
    ],
)
def test_a_network_that_does_not_fit_is_said(changes, message, tmp_path):
    pytest.importorskip("timm")
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    params = load_params(ROOT / "params.yaml")
    data = params.data.model_copy(update={"folder": str(tmp_path), "image_size": 50})
    model = params.model.model_copy(update=changes)
    params = params.model_copy(update={"data": data, "model": model})
    text, complete = inventory(params, tmp_path / "raw", tmp_path / "downloads")
    assert not complete
    assert re.search(f"error: .*{message}", text)
