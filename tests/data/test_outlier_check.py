"""Images to train with as outliers: prepared beside train, and no image of a test."""

import json

import pytest
from conftest import jpeg, write_folder
from test_prepare import data, run

from snojoe.data.inventory import _what_is_read
from snojoe.data.sets import read_sets
from snojoe.data.shards import Shards
from snojoe.experiment import Folders
from snojoe.support.errors import SnojoeError


def outliers(tmp_path, files, **changes):
    write_folder(tmp_path / "mine", files)
    return data(tmp_path, outliers={"path": "mine"}, **changes)


def test_they_lie_beside_train_as_they_came(tmp_path, lines):
    said, say = lines
    files = {"cat/1.jpg": jpeg(20), "sea horse/2.jpg": jpeg(21), "note.txt": b""}
    prepared = run(tmp_path, outliers(tmp_path, files), say)
    shards = Shards(prepared / "train/outliers")
    assert [*shards.encoded()] == [jpeg(20), jpeg(21)]
    assert shards.labels() is None
    assert len(Shards(prepared / "train")) == 2  # what is there stays whole
    report = json.loads((prepared / "report.json").read_text())
    assert report["outliers"] == {"images": 2, "undecodable": []}
    assert "train/outliers: 2 images" in said
    assert "outliers: left out: 1 .txt files (note.txt)" in said
    assert Folders(tmp_path).outliers == tmp_path / "data/prepared/train/outliers"


def test_without_them_nothing_changes(tmp_path):
    prepared = run(tmp_path, data(tmp_path))
    assert "outliers" not in json.loads((prepared / "report.json").read_text())
    assert not (prepared / "train/outliers").exists()


def test_a_class_of_an_ood_set_stops_everything(tmp_path, lines):
    said, say = lines
    settings = outliers(tmp_path, {"set/X/5.jpg": jpeg(20), "set/y/6.jpg": jpeg(21)})
    with pytest.raises(SnojoeError, match=r"data\.outliers: x: a class of data\.ood\.other, too"):
        run(tmp_path, settings, say)
    assert not said  # before anything was decoded


def test_folders_that_are_no_classes_are_no_reason(tmp_path):
    files = {"train/images/5.jpg": jpeg(20), "6.jpg": jpeg(21)}
    settings = outliers(tmp_path, files, more={"images/7.jpg": jpeg(22), "8.jpg": jpeg(23)})
    assert len(Shards(run(tmp_path, settings) / "train/outliers")) == 2


@pytest.mark.parametrize(
    ("seed", "where", "other"),
    [(7, "data.ood.other", "x/1.JPEG"), (3, "test", "VOCdevkit"), (2, "val", "VOCdevkit"),
     (0, "train", "VOCdevkit")],
)  # fmt: skip
def test_an_image_of_another_set_is_named(tmp_path, seed, where, other):
    settings = outliers(tmp_path, {"cat/5.jpg": jpeg(20), "cat/twin.jpg": jpeg(seed)})
    expected = (
        rf"data\.outliers: 1 of {where}'s images, to the byte, such as cat/twin.jpg = {other}"
    )
    with pytest.raises(SnojoeError, match=expected):
        run(tmp_path, settings)


def test_classes_that_are_known_are_said(tmp_path, lines):
    said, say = lines
    run(tmp_path, outliers(tmp_path, {"police dog/5.jpg": jpeg(20)}), say)
    assert (
        "outliers: the in-distribution set seems to know police dog is dog; 1 image; if that is "
        "so, the training unlearns them"
    ) in said


def test_a_set_without_images_is_named(tmp_path):
    with pytest.raises(SnojoeError, match=r"data\.outliers: .*mine holds no image"):
        run(tmp_path, outliers(tmp_path, {"note.txt": b""}))


def test_data_check_counts_them(tmp_path):
    settings = outliers(tmp_path, {"cat/5.jpg": jpeg(20)})
    sets = read_sets(settings, lambda source: tmp_path / source.path, tmp_path / "scratch")
    assert "outliers: 1 images" in _what_is_read(sets)
