"""COCO JSON as MS-COCO and as tools write it, hand-made: what is read of it, and what is said."""

import contextlib
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import COCO_CATEGORIES as CATEGORIES
from conftest import coco_json as coco
from conftest import jpeg, voc_files, write_folder, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st
from test_labelling_tools import read, told, zip_labels
from test_prepare import data

from snojoe.data.archives import Archive
from snojoe.data.labelled import LabelledImages
from snojoe.data.prepare import prepare
from snojoe.data.prepared import read_classes
from snojoe.data.shards import Shards
from snojoe.support.errors import SnojoeError


def images_of(*names):
    return {name: jpeg(i) for i, name in enumerate(names)}


def reading(tmp_path, files, name="pets", **options):
    return LabelledImages([Archive(write_folder(tmp_path / name, files), tmp_path)], **options)


def ms_coco():
    """Two splits, a folder without a file, and files of other tasks."""
    return {
        "annotations/instances_train2014.json": coco(
            {5: "COCO_train_5.jpg", 3: "COCO_train_3.jpg", 4: "COCO_train_4.jpg"},
            [(5, 90), (5, 90), (3, 1), (5, 7)],
        ),
        "annotations/instances_val2014.json": coco({9: "COCO_val_9.jpg"}, [(9, 1)]),
        "annotations/person_keypoints_val2014.json": coco({9: "COCO_val_9.jpg"}, [(9, 1)]),
        "annotations/captions_val2014.json": b'{"images": [], "annotations": [{"caption": "a"}]}',
        **images_of("train2014/COCO_train_3.jpg", "train2014/COCO_train_4.jpg",
                    "train2014/COCO_train_5.jpg", "val2014/COCO_val_9.jpg",
                    "test2014/COCO_test_1.jpg", "test2014/COCO_test_2.jpg"),
    }  # fmt: skip


SPLITS = {s: [f"pets/{s}2014"] for s in ("train", "val", "test")}


def test_ms_coco_is_read_by_the_protocol(tmp_path):
    images = reading(tmp_path, ms_coco())
    assert images.lists == [f"pets/{s}2014" for s in ("test", "train", "val")]
    labelled = images.read(SPLITS)
    assert labelled.classes == ["zebra", "cat", "dog"], "in the file's order, not sorted"
    train = {each.image_name[-5:-4]: each.labels.tolist() for each in labelled.splits["train"]}
    assert train == {"5": [1, 0, 1], "3": [0, 1, 0], "4": [0, 0, 0]}
    assert list(train) == ["5", "3", "4"], "in the file's order"
    assert [each.labels for each in labelled.splits["test"]] == [None, None]
    assert any("show none of the classes: 1 of train" in note for note in labelled.notes)
    (left,) = labelled.left_out.values()
    tasks = ("captions", "person_keypoints")
    assert left == {".json files": [f"annotations/{task}_val2014.json" for task in tasks]}


def test_archives_as_they_are_downloaded_belong_together(tmp_path):
    files = ms_coco()
    parts = {}
    for name, content in files.items():
        parts.setdefault(name.partition("/")[0], {})[name] = content
    parts = {"annotations_trainval2014" if n == "annotations" else n: p for n, p in parts.items()}
    archives = [
        Archive(write_tar(tmp_path / f"{name}.tar", part), tmp_path) for name, part in parts.items()
    ]
    images = LabelledImages(archives)
    assert images.lists == [
        *("annotations_trainval2014/train2014", "annotations_trainval2014/val2014"),
        "test2014/test2014",
    ]
    found = read(images, "annotations_trainval2014/train2014")
    assert found["annotations_trainval2014/train2014/COCO_train_5.jpg"] == "dog zebra"
    assert read(images, "test2014/test2014")["test2014/test2014/COCO_test_1.jpg"] is None


def label_studio(prefix="images/"):
    """result.json beside images/, names with a prefix of the upload."""
    names = {0: f"{prefix}1f0b-a.jpg", 1: f"{prefix}2f0b-b.jpg"}
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    return {"result.json": coco(names, [(0, 0), (1, 1), (1, 0)], categories),
            **images_of("images/1f0b-a.jpg", "images/2f0b-b.jpg")}  # fmt: skip


def cvat():
    """A list called default, images in subfolders, ids from 1, attributes."""
    names = {1: "a.jpg", 2: "day 1/b.jpg"}
    return {"annotations/instances_default.json": coco(names, [(1, 1), (2, 90)]),
            **images_of("images/default/a.jpg", "images/default/day 1/b.jpg")}  # fmt: skip


def cvat_project():
    """Subsets, whose images have the same names."""
    return {
        "annotations/instances_Train.json": coco({1: "a.jpg"}, [(1, 1)]),
        "annotations/instances_Validation.json": coco({1: "a.jpg"}, [(1, 90)]),
        **images_of("images/Train/a.jpg", "images/Validation/a.jpg"),
    }


def roboflow():
    """One file a folder; the first category only holds the others."""
    root = {"id": 0, "name": "pets", "supercategory": "none"}
    categories = [root, *({**each, "supercategory": "pets"} for each in CATEGORIES)]
    return {
        "train/_annotations.coco.json": coco({0: "a.rf.0.jpg"}, [(0, 1)], categories),
        "valid/_annotations.coco.json": coco({0: "b.rf.1.jpg"}, [(0, 90)], categories),
        "test/_annotations.coco.json": coco({0: "c.rf.2.jpg", 1: "d.jpg"}, [(0, 7)], categories),
        "README.roboflow.txt": b"",
        **images_of("train/a.rf.0.jpg", "valid/b.rf.1.jpg", "test/c.rf.2.jpg", "test/d.jpg"),
    }


def fiftyone():
    """labels.json beside data/."""
    return {"labels.json": coco({1: "a.jpg", 2: "b.jpg"}, [(1, 1), (2, 90)]),
            **images_of("data/a.jpg", "data/b.jpg")}  # fmt: skip


def by_hand():
    """A bare annotations.json, ids as text and as pandas writes them, names of Windows."""
    content = json.loads(coco({"0": ".\\img\\a.jpg", "1": ".\\img\\B.JPG"}, [(0, "90"), (1.0, 1)]))
    return {"annotations.json": json.dumps(content).encode(), **images_of("img/a.jpg", "img/b.jpg")}


@pytest.mark.parametrize(
    ("tool", "lists", "labels"),
    [
        (label_studio, ["all"], {"images/1f0b-a.jpg": "cat", "images/2f0b-b.jpg": "cat dog"}),
        (cvat, ["default"], {
            "images/default/a.jpg": "cat", "images/default/day 1/b.jpg": "dog"}),
        (cvat_project, ["Train", "Validation"], {
            "images/Train/a.jpg": "cat", "images/Validation/a.jpg": "dog"}),
        (roboflow, ["test", "train", "valid"], {
            "train/a.rf.0.jpg": "cat", "valid/b.rf.1.jpg": "dog",
            "test/c.rf.2.jpg": "zebra", "test/d.jpg": ""}),
        (fiftyone, ["all"], {"data/a.jpg": "cat", "data/b.jpg": "dog"}),
        (by_hand, ["all"], {"img/a.jpg": "dog", "img/b.jpg": "cat"}),
    ],
    ids=["Label Studio", "CVAT", "CVAT project", "Roboflow", "FiftyOne", "by hand"],
)  # fmt: skip
def test_what_a_tool_writes_is_read(tmp_path, tool, lists, labels):
    images = reading(tmp_path, tool())
    assert images.lists == [f"pets/{name}" for name in lists]
    assert {name.removeprefix("pets/"): value for name, value in zip_labels(images)} == labels


@pytest.mark.parametrize(
    "prefix",
    [
        "images\\", "images\\1/", "images/1/", "../../label-studio/media/upload/4/",
        "..\\..\\label-studio\\label-studio\\media\\upload\\4\\", "/home/me/pets/images/",
        "C:\\Users\\me\\", "https://host/data/upload/1/", "/data/local-files/?d=pets/images/",
        "s3://bucket/a/", "http://[a/", "images\\64cb5ad3__data%5C", "",
    ],
)  # fmt: skip
def test_label_studios_paths_lead_to_the_images(tmp_path, prefix):
    images = reading(tmp_path, label_studio(prefix))
    assert read(images) == {"pets/images/1f0b-a.jpg": "cat", "pets/images/2f0b-b.jpg": "cat dog"}
    there = prefix in ("images\\", "/data/local-files/?d=pets/images/", "")
    assert ("by the end of their paths alone" in told(images)) != (prefix in ("images\\", ""))
    assert there or "1f0b-a.jpg" in told(images)


def test_a_category_that_only_holds_others_is_no_class(tmp_path):
    splits = {"train": ["pets/train"], "val": ["pets/valid"], "test": ["pets/test"]}
    labelled = reading(tmp_path, roboflow()).read(splits)
    assert labelled.classes == ["zebra", "cat", "dog"]
    assert "categories that only hold others, no classes: 1, such as pets" in labelled.notes


def test_a_category_that_holds_others_and_is_annotated_is_a_class(tmp_path):
    categories = [{"id": 1, "name": "animal"}, {"id": 2, "name": "cat", "supercategory": "animal"}]
    files = {"pets.json": coco({1: "a.jpg"}, [(1, 1)], categories), "a.jpg": jpeg()}
    everything = {split: ["pets/all"] for split in ("train", "val", "test")}
    assert reading(tmp_path, files).read(everything).classes == ["animal", "cat"]


def test_an_image_beside_another_folder_is_not_taken_for_one_that_is_missing(tmp_path):
    """Frames have the same names in all folders."""
    files = roboflow()
    files["train/_annotations.coco.json"] = coco({0: "0.jpg", 1: "1.jpg"}, [(0, 1), (1, 90)])
    files |= images_of("train/0.jpg", "valid/0.jpg", "valid/1.jpg")
    with pytest.raises(SnojoeError, match=r"train/_annotations\.coco\.json: no image for 1 of its "
                       r"2, such as '1\.jpg'; there is .*valid/1\.jpg"):  # fmt: skip
        read(reading(tmp_path, files), "pets/train")


def test_of_two_folders_neither_is_guessed(tmp_path):
    files = {"annotations.json": coco({1: "a.jpg"}, [(1, 1)]), **images_of("x/a.jpg", "y/a.jpg")}
    with pytest.raises(SnojoeError, match=r"annotations\.json: expected its images in one folder; "
                       r"got '.*pets/x', '.*pets/y'"):  # fmt: skip
        reading(tmp_path, files)


def test_images_of_a_file_without_annotations_are_unknown(tmp_path):
    tree = json.loads(coco({1: "a.jpg"}))
    for annotations in ([], None):
        if annotations is None:
            del tree["annotations"]
        files = {"image_info_test.json": json.dumps(tree).encode(), "test/a.jpg": jpeg()}
        images = reading(tmp_path, files, f"pets{annotations}")
        assert read(images) == {f"pets{annotations}/test/a.jpg": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["images"].append({"id": 1, "file_name": "b.jpg"}),
         "two images have the id 1: 'a.jpg' and 'b.jpg'"),
        (lambda t: t["images"].append({"id": 2, "file_name": "a.jpg"}),
         "expected each image once; got a.jpg 2 times"),
        (lambda t: t["images"].append({"id": 2}), "expected id and file_name of each image"),
        (lambda t: t["images"].append({"id": 2, "file_name": "c.jpg"}),
         "no image for 1 of its 2, such as 'c.jpg'"),
        (lambda t: t.update(images=[], annotations=[]), "expected images; there is none"),
        (lambda t: t["categories"].append({"id": 1, "name": "cow"}),
         "two categories have the id 1: 'cat' and 'cow'"),
        (lambda t: t["categories"].append({"id": 2}), "expected id and name of each category"),
        (lambda t: t["annotations"].append({"image_id": 1, "category_id": 5}),
         "an annotation of image 1 with the category 5; expected one of '7', '1', '90'"),
        (lambda t: t["annotations"].append({"image_id": 6, "category_id": 1}),
         "an annotation of image 6, which is not there"),
        (lambda t: t["annotations"].append({"image_id": 1}), "without image_id and category_id"),
        (lambda t: t["annotations"].append(3), "an annotation without image_id and category_id"),
        (lambda t: t.update(annotations={"a": 1}), "expected a list of annotations"),
        (lambda t: t["categories"].append("cow"), "expected id and name of each category"),
        (lambda t: t["images"].append({"id": [2], "file_name": "b.jpg"}), "expected id and file_"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, change, message):
    tree = json.loads(coco({1: "a.jpg"}, [(1, 1)]))
    change(tree)
    files = {"annotations.json": json.dumps(tree).encode(), **images_of("a.jpg", "b.jpg")}
    with pytest.raises(SnojoeError) as raised:
        read(reading(tmp_path, files), "pets/all")
    assert f"{tmp_path}/pets: annotations.json: " in str(raised.value)
    assert message in str(raised.value)


def test_a_truncated_file_is_named(tmp_path):
    content = coco({1: "a.jpg"}, [(1, 1)])[:-1]
    with pytest.raises(SnojoeError, match=r"annotations\.json: not valid JSON"):
        reading(tmp_path, {"annotations.json": content, "a.jpg": jpeg()})


@pytest.mark.parametrize(
    "content",
    [
        b"[]", b'{"a": 1}', b"{", b'["images", "categories"]', b'{"images": 1, "categories": []}',
        b'{"version": "5.0", "shapes": [], "imagePath": "a.jpg"}',  # labelme
        b'[{"image_id": 1, "category_id": 1, "score": 0.5}]',  # predictions
    ],
)  # fmt: skip
def test_other_json_is_not_mistaken(tmp_path, content):
    files = {"pets.json": content, "a.jpg": jpeg()}
    with pytest.raises(SnojoeError, match=r"found 1 images, 0 XML files, 0 tables; 1 JSON files, "
                       "none of which has images and categories"):  # fmt: skip
        reading(tmp_path, files)
    assert read(reading(tmp_path, files | {"labels.csv": b"file,labels\na.jpg,cat\n"}))


def test_a_file_beside_each_image_is_of_another_tool(tmp_path):
    """labelme's hold the images themselves, and are not read."""
    files = {"a.json": coco({1: "a.jpg"}, [(1, 1)]), "a.jpg": jpeg()}
    with pytest.raises(SnojoeError, match="found 1 images, 0 XML files, 0 tables; 1 JSON files"):
        reading(tmp_path, files)


@pytest.mark.parametrize("content", [coco({1: "a.jpg"}, [(1, 1)]), b'{"images": "categories"'])
def test_a_voc_set_has_its_own_lists(tmp_path, content):
    files = voc_files({"a": [("dog", False)]}, {"train": ["a"]})
    images = reading(tmp_path, files | {"VOCdevkit/VOC2012/train.json": content})
    assert read(images) == {"VOC2012/a": "dog"}
    splits = {split: ["VOC2012/train"] for split in ("train", "val", "test")}
    (left,) = images.read(splits).left_out.values()
    assert left == {".json files": ["VOCdevkit/VOC2012/train.json"]}


def test_a_wrong_file_does_not_stop_a_table(tmp_path):
    files = {"labels.csv": b"file,labels\na.jpg,dog\n", "a.jpg": jpeg()}
    images = reading(tmp_path, files | {"pets.json": b'{"images": [], "categories": []}'})
    assert read(images) == {"pets/a.jpg": "dog"}
    assert "not used, since it is wrong: " in told(images)


def test_two_files_for_one_list_are_named(tmp_path):
    archives = []
    for part in "ab":
        files = {"pets/annotations/instances_all.json": coco({1: "1.jpg"}, [(1, 1)]),
                 **images_of("pets/images/1.jpg")}  # fmt: skip
        archives.append(Archive(write_folder(tmp_path / part, files), tmp_path))
    with pytest.raises(
        SnojoeError, match=r"/b: .*_all\.json would be the list pets/all, which .*/a: "
    ):
        LabelledImages(archives)


def test_several_files_of_a_folder_keep_their_names(tmp_path):
    files = {
        "monday.json": coco({1: "a.jpg"}, [(1, 1)]), "tuesday.json": coco({1: "b.jpg"}, [(1, 1)]),
        "my_val.json": coco({1: "c.jpg"}, [(1, 1)]), **images_of("a.jpg", "b.jpg", "c.jpg"),
    }  # fmt: skip
    assert reading(tmp_path, files).lists == ["pets/all", "pets/tuesday", "pets/val"]


def test_shares_take_every_annotated_image_once(tmp_path):
    names = {i: f"{i}.jpg" for i in range(40)}
    content = coco(names, [(i, 1) for i in range(40)])
    files = {"annotations/instances_a.json": content, "annotations/instances_b.json": content,
             **images_of(*(f"images/{i}.jpg" for i in range(40)), "test2014/0.jpg")}  # fmt: skip
    shares = reading(tmp_path, files).read({"train": 0.6, "val": 0.2, "test": 0.2})
    assert sum(map(len, shares.splits.values())) == 40


def test_more_files_bring_more_categories_behind_those_of_the_first(tmp_path):
    more = [{"id": 1, "name": "ape"}, {"id": 2, "name": "cat"}]
    files = {
        "train/_annotations.coco.json": coco({0: "a.jpg"}, [(0, 1)]),
        "valid/_annotations.coco.json": coco({0: "b.jpg"}, [(0, 1)], more),
        **images_of("train/a.jpg", "valid/b.jpg"),
    }
    splits = {"train": ["pets/train"], "val": ["pets/valid"], "test": ["pets/valid"]}
    assert reading(tmp_path, files).read(splits).classes == ["zebra", "cat", "dog", "ape"]


def test_what_is_stored(tmp_path):
    """Columns in the file's order, negatives in train, test without labels, IDX as OOD."""
    files = ms_coco()
    sets = data(
        tmp_path,
        id=[{"path": "pets.tar"}],
        ood={"digits": {"path": "t10k-images-idx3-ubyte.gz"}},
        splits=SPLITS,
        expected={"images": {"train": 3, "val": 1, "test": 2, "digits": 2},
                  "positives": {"zebra": 1, "cat": 1, "dog": 1}},
    )  # fmt: skip
    write_tar(tmp_path / "pets.tar", files)
    digits = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(16) + bytes([255] * 16)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(digits))
    prepare(sets, lambda source: tmp_path / source.path, tmp_path / "prepared")
    assert read_classes(tmp_path / "prepared") == ["zebra", "cat", "dog"]
    train = Shards(tmp_path / "prepared/train")
    np.testing.assert_array_equal(train.labels(), [[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    stored = train.table(["image"])["image"].to_pylist()
    assert stored == [files[f"train2014/COCO_train_{i}.jpg"] for i in (5, 3, 4)]
    assert Shards(tmp_path / "prepared/test").labels() is None
    (batch,) = Shards(tmp_path / "prepared/ood/digits").batches(8)
    assert batch.pixels.shape == (2, 24, 24, 3)
    assert [set(image.ravel()) for image in batch.pixels] == [{0}, {255}]


def places(tree, path=()):
    """Where something stands in a tree of JSON, itself included."""
    yield path
    children = tree.items() if isinstance(tree, dict) else ()
    for key, value in enumerate(tree) if isinstance(tree, list) else children:
        yield from places(value, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)


@settings(max_examples=100, deadline=None)
@given(source=st.data(), value=JSON)
def test_whatever_stands_in_a_file_is_read_or_named(source, value):
    tree = json.loads(coco({1: "a.jpg", 2: "b.jpg"}, [(1, 1), (2, 90)]))
    *path, last = source.draw(st.sampled_from([p for p in places(tree) if p]))
    inside = tree
    for key in path:
        inside = inside[key]
    inside[last] = value
    with tempfile.TemporaryDirectory() as folder:
        files = {"pets.json": json.dumps(tree).encode(), "a.jpg": b"", "b.jpg": b""}
        archive = Archive(write_folder(Path(folder) / "pets", files), Path(folder))
        with contextlib.suppress(SnojoeError):
            read(LabelledImages([archive]))


REAL = Path(__file__).parents[3] / "shared" / "realdata" / "archives" / "coco-mini.tar"


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not there: this reads real files of it")
def test_real_files_of_ms_coco(tmp_path):
    archive = Archive(REAL, tmp_path)
    images = LabelledImages([archive])
    labelled = images.read({s: [f"coco/{s}2017"] for s in ("train", "val", "test")})
    assert {s: len(found) for s, found in labelled.splits.items()} == {
        "train": 80, "val": 79, "test": 80}  # fmt: skip
    assert (len(labelled.classes), labelled.classes[0], labelled.classes[-1]) == (
        *(80, "person", "toothbrush"),
    )
    annotations = json.loads(archive["coco/annotations/instances_train2017.json"])["annotations"]
    pairs = {(each["image_id"], each["category_id"]) for each in annotations}
    assert sum(int(each.labels.sum()) for each in labelled.splits["train"]) == len(pairs) == 302
