"""NUS-WIDE's lists, of JointEnergy's code and of the official release, hand-made."""

import numpy as np
import pytest
from conftest import jpeg, write_folder
from test_labelling_tools import read, told

from snojoe.data.archives import Archive
from snojoe.data.class_names import NUS_WIDE as CONCEPTS
from snojoe.data.labelled import LabelledImages
from snojoe.support.errors import SnojoeError

PICTURE = jpeg()
TEST = [(f"plane/{i:04}_{7 * i}.jpg", {"sky", "plane"} if i % 5 else set()) for i in range(12)]
TRAIN = [
    ("cat/0001_5.jpg", {"cat", "zebra"}),
    ("cat/0002_6.jpg", set()),
    ("sea/3_7.jpg", {"ocean"}),
]


def pictures(rows, folder="Flickr/"):
    """No image of a row without a concept: it is not needed."""
    return {f"{folder}{name}": PICTURE for name, labels in rows if labels}


def two_lists(folder="nus-wide/"):
    files = pictures(TRAIN) | pictures(TEST)
    for split, rows in (("train", TRAIN), ("test", TEST)):
        names = "".join(f"Flickr/{name} {len(labels)}\n" for name, labels in rows)
        marks = (" ".join(str(int(c in labels)) for c in CONCEPTS) for _, labels in rows)
        files[f"{folder}nus_wide_{split}_imglist.txt"] = names.encode()
        files[f"{folder}nus_wide_{split}_label.txt"] = "\n".join(marks).encode()
    return files


def official(images="Flickr/"):
    """Backslashes, a file a concept, and files of the whole set beside them."""
    files = pictures(TRAIN, images) | pictures(TEST, images)
    for split, rows in (("Train", TRAIN), ("Test", TEST)):
        names = "".join(f"{name}\r\n" for name, _ in rows).replace("/", "\\")
        files[f"ImageList/{split}Imagelist.txt"] = names.encode()
        for concept in CONCEPTS:
            marks = "".join(f"{int(concept in labels)}\n" for _, labels in rows)
            name = f"Groundtruth/TrainTestLabels/Labels_{concept}_{split}.txt"
            files[name] = marks.encode()
    files["ImageList/Imagelist.txt"] = b""
    files["Groundtruth/AllLabels/Labels_zebra.txt"] = b""
    return files


def reading(tmp_path, files, name="nus-wide"):
    return LabelledImages([Archive(write_folder(tmp_path / name, files), tmp_path)])


SPLITS = {split: [f"nus-wide/{split}"] for split in ("train", "val", "test")}


def protocol_halves():
    """Rows with a label, shuffled by NumPy's legacy generator of seed 999: as arrays and lists."""
    names = [name for name, labels in TEST if labels]
    rows = np.arange(len(names) * 2).reshape(-1, 2)
    np.random.seed(999)  # noqa: NPY002 - the protocol's
    state = np.random.get_state()  # noqa: NPY002
    np.random.shuffle(rows)  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    np.random.shuffle(names)  # noqa: NPY002
    half = len(rows) // 2
    return names[:half], names[half:]


def test_there_are_81_concepts_in_the_order_of_the_alphabet():
    assert len(CONCEPTS) == 81
    assert list(CONCEPTS) == sorted(set(CONCEPTS))


@pytest.mark.parametrize("files", [two_lists, official, lambda: official("")])
def test_both_layouts_are_read_by_the_protocol(tmp_path, files):
    images = reading(tmp_path, files())
    assert images.lists == sorted(item for items in SPLITS.values() for item in items)
    labelled = images.read(SPLITS)
    assert labelled.classes == list(CONCEPTS)
    train = {e.image_name: {CONCEPTS[i] for i in np.flatnonzero(e.labels)}
             for e in labelled.splits["train"]}  # fmt: skip
    assert [set(labels) for labels in train.values()] == [{"cat", "zebra"}, {"ocean"}]
    for split, names in zip(("val", "test"), protocol_halves(), strict=True):
        found = [e.image_name.removeprefix("Flickr/") for e in labelled.splits[split]]
        assert found == names
    assert "1 of 3 images show no concept, left out" in told(images)
    assert "3 of 12 images show no concept, left out" in told(images)
    assert ("not JointEnergy's halves" in told(images)) == ("ImageList/Imagelist.txt" in files())


def test_images_lists_and_labels_may_be_in_several_archives(tmp_path):
    parts = {}
    for name, content in official().items():
        parts.setdefault(name.partition("/")[0], {})[name] = content
    archives = [
        Archive(write_folder(tmp_path / name, files), tmp_path) for name, files in parts.items()
    ]
    images = LabelledImages(archives)
    assert images.lists == [f"ImageList/{split}" for split in ("test", "train", "val")]
    assert read(images, "ImageList/train") == {
        "ImageList/Flickr/cat/0001_5.jpg": "cat zebra", "ImageList/Flickr/sea/3_7.jpg": "ocean",
    }  # fmt: skip


def test_shares_take_every_image_with_a_concept(tmp_path):
    shares = reading(tmp_path, two_lists("")).read({"train": 0.5, "val": 0.25, "test": 0.25})
    assert sum(map(len, shares.splits.values())) == 11


def test_concepts_are_named_by_their_list(tmp_path):
    files = two_lists("") | {"Concepts81.txt": "\n".join(reversed(CONCEPTS)).encode()}
    assert reading(tmp_path, files).read(SPLITS).classes[0] == "zebra"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("nus_wide_train_label.txt", lambda t: t.replace(b"1", b"2", 1),
         "nus_wide_train_label.txt: line 1: expected 81 times 0 or 1; got '0 0"),
        ("nus_wide_train_label.txt", lambda t: t[:-2],
         "nus_wide_train_label.txt: line 3: expected 81 times 0 or 1"),
        ("nus_wide_train_label.txt", lambda t: t.rpartition(b"\n")[0],
         "expected a line for each of 3 images; got 2"),
        ("nus_wide_train_label.txt", None,
         "nus_wide_train_imglist.txt: expected its labels beside it, in nus_wide_train_label.txt"),
        ("Flickr/cat/0001_5.jpg", None,
         "nus_wide_train_imglist.txt: no image for 1 of its 2, such as 'Flickr/cat/0001_5.jpg'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, name, change, message):
    files = two_lists("")
    content = files.pop(name)
    with pytest.raises(SnojoeError) as raised:
        read(reading(tmp_path, files | ({name: change(content)} if change else {})))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Labels_sky_Test.txt", lambda t: t.replace(b"1", b"yes", 1),
         "Labels_sky_Test.txt: line 2: expected 0 or 1; got 'yes'"),
        ("Labels_sky_Test.txt", lambda t: t[2:], "a line for each of 12 images; got 11"),
        ("Labels_sky_Test.txt", None, "no Labels_sky_Test.txt, which the other split has"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_official_release_is_named(tmp_path, name, change, message):
    files, path = official(), f"Groundtruth/TrainTestLabels/{name}"
    content = files.pop(path)
    with pytest.raises(SnojoeError) as raised:
        read(reading(tmp_path, files | ({path: change(content)} if change else {})))
    assert message in str(raised.value)


def test_lists_of_other_sets_are_none_of_it(tmp_path):
    """Names as those of the official release, without its folders."""
    other = {
        f"{fold}/{name}": fold.encode()
        for fold in "ab"
        for name in ("trainImageList.txt", "labels_cat_train.txt")
    }
    table = {"labels.csv": b"file,labels\n1.jpg,cat\n", "1.jpg": PICTURE}
    assert read(reading(tmp_path, other | table)) == {"nus-wide/1.jpg": "cat"}


def test_two_lists_that_differ_are_named(tmp_path):
    files = official()
    files["b/ImageList/TrainImagelist.txt"] = files["ImageList/TestImagelist.txt"]
    with pytest.raises(SnojoeError, match=r"ImageList/TrainImagelist\.txt and .* differ"):
        reading(tmp_path, files)
