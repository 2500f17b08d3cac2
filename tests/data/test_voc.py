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


def labels(found):
    return [" ".join(sorted(image.labels)) for image in found]


def test_labels_follow_the_annotations_difficult_ones_included(tmp_path):
    kit = devkit(tmp_path, voc_files(IMAGES, LISTS, class_lists=CLASSES))
    found = kit.images(["VOC2012/trainval"])
    assert [image.id for image in found] == [f"VOC2012/{i}" for i in "abcd"]
    assert labels(found) == ["dog person", "person", "cat", ""]


def test_difficult_objects_can_be_excluded(tmp_path):
    files = voc_files(IMAGES, LISTS, class_lists=CLASSES)
    found = devkit(tmp_path, files, difficult=False).images(["VOC2012/trainval"])
    assert labels(found) == ["dog", "person", "", ""]


def test_classes_come_from_all_annotations_without_class_lists(tmp_path):
    kit = devkit(tmp_path, voc_files(IMAGES, LISTS))
    splits = {"train": ["VOC2012/train"], "val": ["VOC2012/val"], "test": ["VOC2012/val"]}
    read = kit.read(splits)
    assert read.classes == CLASSES  # body parts are not objects
    assert [example.labels.tolist() for example in read.splits["val"]] == [[1, 0, 0], [0, 0, 0]]


def test_class_lists_name_all_classes(tmp_path):
    files = voc_files(IMAGES, {"train": ["a", "b"], "val": ["c"]}, class_lists=["dog", "person"])
    with pytest.raises(SnojoeError, match=r"Annotations/c\.xml: class 'cat' is not in .* dog, per"):
        devkit(tmp_path, files).images(["VOC2012/val"])


def test_years_join(tmp_path):
    one = write_tar(tmp_path / "1.tar", voc_files(IMAGES, LISTS, class_lists=CLASSES))
    two = write_tar(
        tmp_path / "2.tar", voc_files({"a": [("cat", False)]}, {"test": ["a"]}, name="VOC2007")
    )
    kit = LabelledImages([Archive(path, tmp_path) for path in (one, two)])
    found = kit.images(["VOC2012/train", "VOC2007/test"])
    assert [e.id for e in found] == ["VOC2012/a", "VOC2012/b", "VOC2007/a"]
    assert kit.lists == ["VOC2007/test", "VOC2012/train", "VOC2012/trainval", "VOC2012/val"]


def test_a_test_list_with_missing_annotations_is_unlabelled_as_a_whole(tmp_path):
    # VOC2012's test archive annotates a third of its images, with people alone.
    files = voc_files(IMAGES, LISTS, class_lists=CLASSES)
    del files["VOCdevkit/VOC2012/Annotations/c.xml"]
    kit = devkit(tmp_path, files)
    assert [e.labels for e in kit.images(["VOC2012/val"], labelled=False)] == [None, None]
    with pytest.raises(SnojoeError, match=r"1 of 2 images have no annotation.*c\.xml"):
        kit.images(["VOC2012/val"])


def test_images_that_no_list_names_are_left_out(tmp_path):
    # VOC2012's test archive has 16,135 images; its list names 10,991 of them.
    files = voc_files(IMAGES, {"test": ["b", "d"]})
    examples = devkit(tmp_path, files).images(["VOC2012/test"])
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
        (_with("ImageSets/Main/train.txt", b"a\xff"), r"train\.txt is not UTF-8"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, files, message):
    with pytest.raises(SnojoeError, match=message):
        devkit(tmp_path, files).images(["VOC2012/train"])


def test_an_unknown_list_names_those_that_are_there(tmp_path):
    with pytest.raises(SnojoeError, match=r"VOC2012/tran: no such .* VOC2012/train, .*/voc"):
        devkit(tmp_path, voc_files(IMAGES, LISTS)).images(["VOC2012/tran"])


def test_an_archive_without_lists_is_named(tmp_path):
    with pytest.raises(
        SnojoeError, match=r"voc: expected labelled images: .*; found 1 images, 0 XML files"
    ):
        devkit(tmp_path, {"readme.txt": b"", "a.jpg": b""})


def test_class_lists_that_disagree_with_the_annotations_are_known(tmp_path):
    files = voc_files(IMAGES, LISTS, class_lists=CLASSES)
    name = "VOCdevkit/VOC2012/ImageSets/Main/dog_train.txt"
    files[name] = b"a -1\nb -1\n"
    kit = devkit(tmp_path, files)
    (source,) = kit.formats
    kit.images(["VOC2012/val"])
    assert source.noticed.lines() == []
    kit.images(["VOC2012/train"])
    (line,) = source.noticed.lines()
    assert "dog_train.txt and VOC2012/train" in line
    assert "disagree on 1 images, such as VOC2012/a" in line


@pytest.mark.parametrize("class_lists", [[], CLASSES])
def test_a_list_of_the_users_own_is_no_class_list(tmp_path, class_lists):
    lists = LISTS | {"small_train": ["a"]}
    kit = devkit(tmp_path, voc_files(IMAGES, lists, class_lists=class_lists))
    (example,) = kit.images(["VOC2012/small_train"])
    assert example.id == "VOC2012/a"
    (source,) = kit.formats
    assert "small" not in source.known_classes
    assert source.noticed.lines() == []


def test_the_annotation_of_another_image_is_taken_and_said(tmp_path):
    files = voc_files(IMAGES, LISTS)
    name = "VOCdevkit/VOC2012/Annotations/a.xml"
    text = files[name].decode()
    files[name] = text.replace("<annotation>", "<annotation><filename>b.jpg</filename>").encode()
    kit = devkit(tmp_path, files)
    assert labels(kit.images(["VOC2012/train"])) == ["dog person", "person"]
    (line,) = kit.formats[0].noticed.lines()
    assert "disagree" in line
    assert line.endswith("1, such as VOC2012/Annotations/a.xml, which says b.jpg")
    files[name] = text.replace("<annotation>", "<annotation><filename>x.png</filename>").encode()
    kit = devkit(tmp_path, files)
    kit.images(["VOC2012/train"])
    assert kit.formats[0].noticed.lines() == []


@pytest.mark.parametrize("stem", ["../a", "/etc/passwd", "x/../y"])
def test_a_path_is_no_image_name(tmp_path, stem):
    files = voc_files(IMAGES, LISTS)
    files["VOCdevkit/VOC2012/ImageSets/Main/train.txt"] = f"{stem}\n".encode()
    with pytest.raises(SnojoeError, match="is no image's name"):
        devkit(tmp_path, files).images(["VOC2012/train"])
