import numpy as np
import pytest
from conftest import annotation, voc_files, write_folder, write_tar

from snojoe.data.archives import Archive
from snojoe.data.labelled import LabelledImages
from snojoe.support.errors import SnojoeError

IMAGES = {
    "a": [("dog", False), ("person", True)],
    "b": [("person", False), ("person", False)],
    "c": [("cat", True)],
    "d": [],
}
LISTS = {"train": ["a", "b"], "val": ["c", "d"], "trainval": ["a", "b", "c", "d"]}
CLASSES = ["cat", "dog", "person"]


def devkit(tmp_path, files, **options):
    return LabelledImages([Archive(write_folder(tmp_path / "voc", files), tmp_path)], **options)


def matrix(examples):
    return np.array([example.labels for example in examples])


def test_labels_follow_the_annotations_difficult_ones_included(tmp_path):
    kit = devkit(tmp_path, voc_files(IMAGES, LISTS, class_lists=CLASSES))
    examples = kit.examples(["VOC2012/trainval"])
    assert kit.classes == CLASSES
    assert [e.id for e in examples] == [f"VOC2012/{i}" for i in "abcd"]
    np.testing.assert_array_equal(matrix(examples), [[0, 1, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]])


def test_difficult_objects_can_be_excluded(tmp_path):
    files = voc_files(IMAGES, LISTS, class_lists=CLASSES)
    examples = devkit(tmp_path, files, difficult=False).examples(["VOC2012/trainval"])
    np.testing.assert_array_equal(matrix(examples), [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_classes_come_from_the_first_annotations_without_class_lists(tmp_path):
    kit = devkit(tmp_path, voc_files(IMAGES, LISTS))
    kit.examples(["VOC2012/train"])
    assert kit.classes == ["dog", "person"]  # body parts are not objects
    with pytest.raises(SnojoeError, match=r"Annotations/c\.xml: class 'cat' is not in .* dog, per"):
        kit.examples(["VOC2012/val"])


def test_years_join(tmp_path):
    one = write_tar(tmp_path / "1.tar", voc_files(IMAGES, LISTS, class_lists=CLASSES))
    two = write_tar(
        tmp_path / "2.tar", voc_files({"a": [("cat", False)]}, {"test": ["a"]}, name="VOC2007")
    )
    kit = LabelledImages([Archive(path, tmp_path) for path in (one, two)])
    examples = kit.examples(["VOC2012/train", "VOC2007/test"])
    assert [e.id for e in examples] == ["VOC2012/a", "VOC2012/b", "VOC2007/a"]
    assert kit.lists == ["VOC2007/test", "VOC2012/train", "VOC2012/trainval", "VOC2012/val"]


def test_a_test_list_with_missing_annotations_is_unlabelled_as_a_whole(tmp_path):
    # VOC2012's test archive annotates a third of its images, with people alone.
    files = voc_files(IMAGES, LISTS, class_lists=CLASSES)
    del files["VOCdevkit/VOC2012/Annotations/c.xml"]
    kit = devkit(tmp_path, files)
    assert [e.labels for e in kit.examples(["VOC2012/val"], labelled=False)] == [None, None]
    with pytest.raises(SnojoeError, match=r"1 of 2 images have no annotation.*c\.xml"):
        kit.examples(["VOC2012/val"])


def test_images_that_no_list_names_are_left_out(tmp_path):
    # VOC2012's test archive has 16,135 images; its list names 10,991 of them.
    files = voc_files(IMAGES, {"test": ["b", "d"]})
    examples = devkit(tmp_path, files).examples(["VOC2012/test"])
    assert [e.id for e in examples] == ["VOC2012/b", "VOC2012/d"]


def _with(name, content):
    files = voc_files(IMAGES, LISTS, class_lists=CLASSES)
    if content is None:
        del files[f"VOCdevkit/VOC2012/{name}"]
    else:
        files[f"VOCdevkit/VOC2012/{name}"] = content
    return files


BOMB = b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (_with("JPEGImages/a.jpg", None), "VOC2012/JPEGImages/a.jpg"),
        (_with("Annotations/a.xml", b"<annotation>"), r"Annotations/a\.xml is not valid XML"),
        (_with("Annotations/a.xml", b""), r"Annotations/a\.xml is not valid XML"),
        (_with("Annotations/a.xml", BOMB), r"Annotations/a\.xml is not valid XML"),
        (_with("Annotations/a.xml", b"<html/>"), "expected <annotation>; got <html>"),
        (_with("Annotations/a.xml", annotation([("", False)])), "<object> without a <name>"),
        (_with("ImageSets/Main/train.txt", b"a\nb\na\n"), "VOC2012/a: listed twice in VOC2012/tr"),
        (_with("ImageSets/Main/train.txt", b"\n"), r"ImageSets/Main/train\.txt lists no image"),
        (_with("ImageSets/Main/train.txt", b"\xff\xfe"), r"train\.txt is not UTF-8"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, files, message):
    with pytest.raises(SnojoeError, match=message):
        devkit(tmp_path, files).examples(["VOC2012/train"])


def test_an_unknown_list_names_those_that_are_there(tmp_path):
    with pytest.raises(SnojoeError, match=r"VOC2012/tran: no such .* VOC2012/train, VOC2012/tr"):
        devkit(tmp_path, voc_files(IMAGES, LISTS)).examples(["VOC2012/tran"])


def test_an_archive_without_lists_is_named(tmp_path):
    with pytest.raises(
        SnojoeError, match=r"voc: expected <set>/ImageSets/Main/<list>\.txt or <set>/lab"
    ):
        devkit(tmp_path, {"readme.txt": b""})


def test_class_lists_that_disagree_with_the_annotations_are_known(tmp_path):
    files = voc_files(IMAGES, LISTS, class_lists=CLASSES)
    name = "VOCdevkit/VOC2012/ImageSets/Main/dog_train.txt"
    files[name] = b"a -1\nb -1\n"
    kit = devkit(tmp_path, files)
    kit.examples(["VOC2012/val"])
    assert kit.disagreements == []
    kit.examples(["VOC2012/train"])
    (line,) = kit.disagreements
    assert "dog_train.txt and VOC2012/train" in line
    assert "disagree on 1 images, such as VOC2012/a" in line


@pytest.mark.parametrize("class_lists", [[], CLASSES])
def test_a_list_of_the_users_own_is_no_class_list(tmp_path, class_lists):
    lists = LISTS | {"small_train": ["a"]}
    kit = devkit(tmp_path, voc_files(IMAGES, lists, class_lists=class_lists))
    (example,) = kit.examples(["VOC2012/small_train"])
    assert example.id == "VOC2012/a"
    assert "small" not in kit.classes
    assert kit.disagreements == []


def test_the_annotation_of_another_image_is_named(tmp_path):
    files = voc_files(IMAGES, LISTS)
    name = "VOCdevkit/VOC2012/Annotations/a.xml"
    text = files[name].decode()
    files[name] = text.replace("<annotation>", "<annotation><filename>b.jpg</filename>").encode()
    with pytest.raises(SnojoeError, match=r"a\.xml is the annotation of .*/JPEGImages/b\.jpg"):
        devkit(tmp_path, files).examples(["VOC2012/train"])
    files[name] = text.replace("<annotation>", "<annotation><filename>x.png</filename>").encode()
    assert len(devkit(tmp_path, files).examples(["VOC2012/train"])) == 2


@pytest.mark.parametrize("stem", ["../a", "/etc/passwd", "x/y"])
def test_a_path_is_no_image_name(tmp_path, stem):
    files = voc_files(IMAGES, LISTS)
    files["VOCdevkit/VOC2012/ImageSets/Main/train.txt"] = f"{stem}\n".encode()
    with pytest.raises(SnojoeError, match="is no image's name"):
        devkit(tmp_path, files).examples(["VOC2012/train"])
