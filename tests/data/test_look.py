import pytest
from conftest import jpeg, write_folder
from test_formats import cvat, labelimg, roboflow, xml

from snojoe.data.look import Edges, look_at_labelled, look_at_ood
from snojoe.support.errors import SnojoeError


def test_a_folder_of_a_labelling_tool_is_described(tmp_path):
    look = look_at_labelled([write_folder(tmp_path / "pets", labelimg())], tmp_path)
    assert look.formats == ["images with XML"]
    assert look.lists == {"pets/all": 3}
    assert look.splits == {}
    assert (look.images, look.annotated, look.negatives, look.grouped) == (3, 2, 0, 0)
    assert look.classes == {"dog": 2, "cat": 1}
    assert look.edges == Edges(30, 30, 30)
    assert look.size == sum(len(jpeg(seed)) for seed in range(3))
    assert "class 'cat' has 1 image: too few to learn it and to measure it" in look.doubts
    assert any("1 of 3 images are not annotated" in doubt for doubt in look.doubts)
    assert look.left_out == [f"{tmp_path}/pets: left out: 1 .txt files (classes.txt)"]


def test_splits_that_exist_are_known(tmp_path):
    look = look_at_labelled([write_folder(tmp_path / "rf", roboflow())], tmp_path)
    assert look.splits == {"train": ["rf/train"], "val": ["rf/valid"], "test": ["rf/test"]}
    assert look.negatives == 1
    assert look_at_labelled([write_folder(tmp_path / "c", cvat())], tmp_path).splits == {}


def test_what_is_doubtful_is_said(tmp_path):
    labels = ["Dog"] * 12 + ["dog"] * 12 + ["none"]
    files = {f"{i}.jpg": jpeg() for i in range(25)}
    files |= {f"{i}.xml": xml([label]) for i, label in enumerate(labels)}
    look = look_at_labelled([write_folder(tmp_path / "pets", files)], tmp_path)
    assert "classes 'Dog' (12) and 'dog' (12): are they one?" in look.doubts
    assert "label 'none' (1): does it say that an image shows no class?" in look.doubts
    assert look.asked == ["none"]


def test_a_table_is_named_by_its_path(tmp_path):
    files = {f"{i}.jpg": jpeg() for i in range(4)}
    rows = "".join(f"{i}.jpg;day {i // 2};clear primary {i % 2}\n" for i in range(4))
    files["export.csv"] = f"file;group;tags\n{rows}".encode()
    folder = write_folder(tmp_path / "sky", files)
    look = look_at_labelled([folder / "export.csv"], tmp_path)
    assert look.formats == ["a table of labels"]
    assert (look.images, look.grouped) == (4, 4)
    with pytest.raises(SnojoeError, match=r"sky: expected labelled images"):
        look_at_labelled([folder], tmp_path)


def test_other_images_are_described(tmp_path):
    files = {
        "x/1.jpg": jpeg(),
        "y/2.jpg": jpeg(),
        ".ipynb_checkpoints/2.jpg": jpeg(),
        "z.heic": b"",
    }
    look = look_at_ood(write_folder(tmp_path / "other", files), tmp_path)
    assert (look.images, look.folders, look.edges) == (2, 2, Edges(30, 30, 30))
    (line,) = look.left_out
    assert "1 .heic files (z.heic), 1 hidden files (.ipynb_checkpoints/2.jpg)" in line
    with pytest.raises(SnojoeError, match=r"empty: holds no image; .*left out: 1 \.heic files"):
        look_at_ood(write_folder(tmp_path / "empty", {"z.heic": b""}), tmp_path)
