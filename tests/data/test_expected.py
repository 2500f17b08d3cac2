import re

import pytest
from conftest import jpeg, voc_files, write_folder, write_tar
from test_prepare import IMAGES, LISTS, data, run

from snojoe.data.archives import Archive
from snojoe.data.expected import identical
from snojoe.data.labelled import Example
from snojoe.support.errors import SnojoeError


def test_what_was_expected_passes(tmp_path):
    expected = {
        "images": {"train": 2, "val": 1, "test": 1, "other": 1},
        "classes": {"other": 1},
        "positives": {"dog": 1, "person": 2},
    }
    ood = {"other": {"path": "ood", "classes": ["x"]}}
    assert (run(tmp_path, data(tmp_path, expected=expected, ood=ood)) / "report.json").exists()


def test_every_difference_is_in_one_table_and_nothing_is_written(tmp_path):
    expected = {
        "images": {"train": 3, "val": 1, "test": 9, "other": 18_835},
        "classes": {"other": 47},
        "positives": {"dog": 5, "person": 2, "cat": 1},
    }
    classes = ["x", "n02069412", "n02431122"]
    ood = {"other": {"path": "ood", "classes": classes}}
    more = {"y/1.jpg": jpeg(8), "y/2.jpg": jpeg(8), "z/1.jpg": jpeg(9)}
    write_tar(tmp_path / "ood" / "z.tar", {"3.jpg": jpeg(10)})
    with pytest.raises(SnojoeError) as caught:
        run(tmp_path, data(tmp_path, more=more, expected=expected, ood=ood))
    rows = [re.split("  +", line.strip()) for line in str(caught.value).splitlines()[2:]]
    assert rows == [
        ["train", "images", "3", "2"],
        ["test", "images", "9", "1"],
        ["other", "images", "18835", "5"],
        ["train", "positive for dog", "5", "1"],
        ["train", "positive for cat", "1", "no such class"],
        ["other", "classes", "47", "3"],
        ["other", "z", "one tar or folder", "two"],
        ["other", "n02069412", "a tar or folder", "missing"],
        ["other", "n02431122", "a tar or folder", "missing"],
        ["other", "y", "not among classes", "there"],
        ["other", "z", "not among classes", "there"],
        ["other", "identical images", "none", "1 group, such as y/1.jpg = y/2.jpg"],
    ]
    assert not (tmp_path / "prepared").exists()


def test_a_class_may_be_a_tar_with_folders_inside(tmp_path):
    write_tar(tmp_path / "ood" / "n02069412.tar", {"n02069412/images/1.JPEG": jpeg(3)})
    ood = {"other": {"path": "ood", "classes": ["n02069412", "x"]}}
    run(tmp_path, data(tmp_path, ood=ood))


def test_val_as_the_test_set_has_no_expected_number_of_its_own(tmp_path):
    splits = {"train": ["VOC2012/train"], "val": ["VOC2012/val"], "test": ["VOC2012/val"]}
    run(tmp_path, data(tmp_path, splits=splits, expected={"images": {"test": 10_991}}))


def test_identical_images_alone_are_said_but_do_not_stop(tmp_path, lines):
    said, say = lines
    run(tmp_path, data(tmp_path, more={"y/same.jpg": jpeg(7)}), say)
    assert "other: identical images: 1 group, such as x/1.JPEG = y/same.jpg" in said


def test_images_of_the_same_size_are_not_thereby_identical(tmp_path):
    archive = Archive(write_folder(tmp_path / "x", {"a": b"12", "b": b"21", "c": b"12"}), tmp_path)
    examples = [Example(name, archive, name, None) for name in archive]
    assert identical(examples) == [["a", "c"]]


def test_the_papers_numbers_are_reached_by_counting_difficult_objects(tmp_path):
    files = voc_files(IMAGES, LISTS)
    expected = {"positives": {"person": 2}}  # one of them is difficult
    run(tmp_path, data(tmp_path, files, expected=expected))
    with pytest.raises(SnojoeError, match=r"positive for person +2 +1"):
        run(tmp_path, data(tmp_path, files, expected=expected, difficult=False))


def test_a_number_for_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected\.images: expected one of train, val, test, oth"
    ):
        data(tmp_path, expected={"images": {"tset": 1}})
    with pytest.raises(ValueError, match=r"expected\.classes: expected one of other; got 'train'"):
        data(tmp_path, expected={"classes": {"train": 1}})
