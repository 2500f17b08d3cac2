import pytest
from conftest import jpeg, voc_files, write_folder, write_tar

from snojoe.data.archives import Archive
from snojoe.data.labelled import LabelledImages
from snojoe.support.errors import SnojoeError

TABLE = """file,labels,split
images/a.jpg,dog;person,train
images/b.jpg, cat | dog ,train
c d.jpg,person,val
images/é.jpg,,test
"""
IMAGES = {name: jpeg() for name in ("images/a.jpg", "images/b.jpg", "c d.jpg", "images/é.jpg")}


def pets(tmp_path, table=TABLE):
    content = table if isinstance(table, bytes) else table.encode()
    return Archive(write_folder(tmp_path / "pets", {**IMAGES, "labels.csv": content}), tmp_path)


def test_a_table_names_images_labels_and_splits(tmp_path):
    images = LabelledImages([pets(tmp_path)])
    assert images.lists == ["pets/test", "pets/train", "pets/val"]
    train = images.images(["pets/train"])
    assert [e.id for e in train] == ["pets/images/a.jpg", "pets/images/b.jpg"]
    assert [e.labels for e in train] == [{"dog", "person"}, {"cat", "dog"}]
    assert train[0].archive[train[0].name] == jpeg()
    assert [e.labels for e in images.images(["pets/test"], labelled=False)] == [None]
    with pytest.raises(
        SnojoeError, match=r"1 of 1 images have no annotation.*pets/labels\.csv, line 5"
    ):
        images.images(["pets/test"])


@pytest.mark.parametrize("inside", ["", "zoo/"])
def test_a_table_in_a_tar(tmp_path, inside):
    files = {f"{inside}{name}": content for name, content in IMAGES.items()}
    table = f"\ufeff{TABLE}".replace("\n", "\r\n").encode()  # as spreadsheets write it
    tar = write_tar(tmp_path / "pets.tar", files | {f"{inside}labels.csv": table})
    images = LabelledImages([Archive(tar, tmp_path)])
    name = inside.rstrip("/") or "pets"
    assert [e.id for e in images.images([f"{name}/val"])] == [f"{name}/c d.jpg"]


def test_other_columns_and_their_order_do_not_matter(tmp_path):
    table = 'split, note ,file,labels\ntrain,"a, b",images/a.jpg,dog\n'
    (image,) = LabelledImages([pets(tmp_path, table)]).images(["pets/train"])
    assert image.labels == {"dog"}


def test_a_table_and_the_voc_format_join(tmp_path):
    voc = {"x": [("horse", False)], "y": [("dog", False)]}
    files = voc_files(voc, {"train": ["x", "y"]}, class_lists=["dog", "horse"])
    voc_archive = Archive(write_tar(tmp_path / "voc.tar", files), tmp_path)
    images = LabelledImages([voc_archive, pets(tmp_path)])
    lists = {"train": ["VOC2012/train", "pets/train"], "val": ["pets/val"], "test": ["pets/val"]}
    read = images.read(lists)
    assert read.classes == ["cat", "dog", "horse", "person"]
    rows = [example.labels.tolist() for example in read.splits["train"]]
    assert rows == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0]]


HEADER = "file,labels,split\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"expected a first line with file, and labels or a column of .*; got ''"),
        ("file;labels;split\n", "expected one row per image; there is none"),
        ("name,labels,split\n", r"got 'name,labels,split'"),
        ("file,File,labels,split\n", r"expected one column file; got 'file,File,labels,split'"),
        ("file,split\nimages/a.jpg,train\n", r"got 'file,split'"),
        (HEADER + "c d.jpg,[dog],train\n", r"line 2: expected labels joined by ; or \|"),
        (HEADER + "c d.jpg,[7],train\n", r"line 2: expected labels joined by ; or \|"),
        (HEADER + "c d.jpg,['dog' *],train\n", r"line 2: expected labels joined by ; or \|"),
        (HEADER + "images/a.jpg,dog,a\nimages/b.jpg,cat,a\nc d.jpg,cat dog,a\n",
         "line 4: expected labels joined .* 'cat dog', .*label_meanings to {cat dog: class}"),
        (HEADER + "images/a.jpg,dog cat,a\nimages/b.jpg,cat dog,a\n", "line 2: .* 'dog cat'"),
        (HEADER + "labels.csv,dog,train\n", r"line 2: expected an image, .*; got 'labels\.csv'"),
        ("file,cat,dog\nimages/a.jpg,1.0,\nimages/b.jpg,,1\n",
         "line 2: expected 0 or 1 for dog; got ''"),
        ("file,cat,dog\nimages/a.jpg,1,0\nimages/b.jpg,1,-1\nc d.jpg,1,1\n",
         "line 3: expected 0 or 1 for dog; got '-1'"),
        (HEADER, "expected one row per image; there is none"),
        (HEADER + "images/x.jpg,dog,train\n", r"line 2: no such file 'images/x.jpg'"),
        (HEADER + "../pets/images/a.jpg,dog,train\n", "line 2: no such file"),
        (HEADER + ",dog,train\n", "line 2: no such file ''"),
        (HEADER + "images/a.jpg,dog;,train\n", r"expected labels joined by ; or \|; got 'dog;'"),
        (HEADER + 'images/a.jpg,"dog, cat",train\n', r"line 2: expected labels joined by ; or \|"),
        (HEADER + "images/a.jpg,dog,\n", "line 2: expected the name of a split, .*; got ''"),
        (HEADER + "images/a.jpg,dog,a/b\n", "line 2: expected the name of a split, .*; got 'a/b'"),
        (HEADER + "images/a.jpg,dog,cat,train\n", "line 2: expected as many fields"),
        (HEADER + "images/a.jpg,dog\n", "line 2: expected as many fields"),
        (HEADER + 'images/a.jpg,"dog,train\n', "not readable as CSV: unexpected end of data"),
        (HEADER + "images/a.jpg,dog,train\n" * 2, "line 3: 'images/a.jpg' is in line 2"),
        (HEADER + "c d.jpg,dog,train\n./c d.jpg,dog,val\n", "line 3: './c d.jpg' is in line 2"),
        ((HEADER + "images/é.jpg,dog,train\n").encode("latin-1"),
         "labels.csv is not UTF-8 text; Excel: save as CSV UTF-8"),
        (HEADER + "x.jpg,dog,train\n" * 7, "and 2 more"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, table, message):
    with pytest.raises(SnojoeError, match=message) as error:
        LabelledImages([pets(tmp_path, table)])
    assert "pets: labels.csv" in str(error.value)


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("\"['cat', 'dog']\"", {"cat", "dog"}),  # pandas
        ('"[""cat"", ""dog""]"', {"cat", "dog"}),
        ('"{""choices"": [""cat"", ""traffic light""]}"', {"cat", "traffic light"}),  # Label Studio
        ("['cat']", {"cat"}),
        ("[]", set()),
    ],
)
def test_a_list_in_a_cell_is_one(tmp_path, cell, labels):
    images = LabelledImages([pets(tmp_path, f"{HEADER}images/a.jpg,{cell},train\n")])
    assert images.images(["pets/train"])[0].labels == labels


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["dog", "cat dog"], "1, such as pets/labels.csv: cat dog"),
        (["clear primary", "clear road", "clear water"], "3, such as pets/labels.csv: clear"),
        (["traffic light", "dog", "cat"], ""),
    ],
)
def test_names_that_look_like_several_are_said(tmp_path, rows, said):
    lines = [f"{name},{row},train" for name, row in zip(IMAGES, rows, strict=False)]
    read = LabelledImages([pets(tmp_path, HEADER + "\n".join(lines))]).read({"train": 1.0})
    notes = [note for note in read.notes if "joined by blanks" in note]
    assert notes == [] if not said else said in notes[0]


def test_two_tables_of_the_same_name_are_refused(tmp_path):
    table = (HEADER + "a.jpg,dog,train\n").encode()
    files = {f"{part}/pets/{name}": content for part in "12" for name, content in
             {"a.jpg": jpeg(), "labels.csv": table}.items()}  # fmt: skip
    with pytest.raises(SnojoeError, match="pets/train is there twice"):
        LabelledImages([Archive(write_folder(tmp_path / "both", files), tmp_path)])


def test_an_unknown_split_names_those_that_are_there(tmp_path):
    with pytest.raises(SnojoeError, match=r"pets/dev: no such .* pets/test, pets/train, pets/val"):
        LabelledImages([pets(tmp_path)]).images(["pets/dev"])
