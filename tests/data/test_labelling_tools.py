"""Labelled images as each tool writes them, hand-made: what is read of them, and what is said."""

import bz2
import io
import lzma
import tarfile
import zipfile

import pytest
from conftest import annotation, jpeg, voc_files, write_folder, write_tar

from snojoe.data.archives import Archive
from snojoe.data.labelled import LabelledImages
from snojoe.support.errors import SnojoeError


def xml(labels, filename="", difficult="0", head=""):
    objects = "".join(
        f"<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{difficult}</difficult><bndbox><xmin>1</xmin></bndbox></object>"
        for label in labels
    )
    name = f"<folder>x</folder><filename>{filename}</filename>" if filename else ""
    return f"{head}<annotation>{name}{objects}</annotation>".encode()


def reading(tmp_path, files, name="pets", **options):
    return LabelledImages([Archive(write_folder(tmp_path / name, files), tmp_path)], **options)


def told(images):
    """What was said, whoever said it."""
    return "\n".join(
        [*images.noticed.lines(), *(x for f in images.formats for x in f.noticed.lines())]
    )


def read(images, *lists, labelled=False):
    """Labels by image; None where nothing is annotated."""
    found = images.images(lists or images.lists, labelled=labelled)
    return {i.id: None if i.labels is None else " ".join(sorted(i.labels)) for i in found}


def labelimg():
    """XML beside the images; classes.txt; an image without objects has no file."""
    return {
        "a.jpg": jpeg(0), "a.xml": xml(["cat", "dog"], "a.jpg"),
        "img (2).JPG": jpeg(1), "img (2).xml": xml(["dog"], "img (2).JPG"),
        "img.jpg": jpeg(2), "classes.txt": b"cat\ndog\n",
    }  # fmt: skip


def roboflow():
    """Folders of splits, names with a hash, a README."""
    return {
        "train/a_jpg.rf.0f.jpg": jpeg(0), "train/a_jpg.rf.0f.xml": xml(["cat"], "a_jpg.rf.0f.jpg"),
        "valid/b_jpg.rf.1f.jpg": jpeg(1), "valid/b_jpg.rf.1f.xml": xml(["dog"], "b_jpg.rf.1f.jpg"),
        "test/c_jpg.rf.2f.jpg": jpeg(2), "test/c_jpg.rf.2f.xml": xml([], "c_jpg.rf.2f.jpg"),
        "README.roboflow.txt": b"",
    }  # fmt: skip


def makesense():
    """Annotations in a zip of their own, unpacked beside the images; <difficult>Unspecified."""
    return {
        "images/a.png": jpeg(0), "images/b.png": jpeg(1),
        "annotations/a.xml": xml(["cat"], "a.png", "Unspecified"),
        "annotations/b.xml": xml(["dog", "cat"], "b.png", "Unspecified"),
    }  # fmt: skip


def labelme2voc():
    """VOC's folders without ImageSets, and pictures of the annotations."""
    return {
        "JPEGImages/a.jpg": jpeg(0), "Annotations/a.xml": xml(["cat"], "a.jpg"),
        "JPEGImages/b.jpg": jpeg(1), "Annotations/b.xml": xml([], "b.jpg"),
        "AnnotationsVisualization/a.jpg": jpeg(2), "AnnotationsVisualization/b.jpg": jpeg(3),
        "class_names.txt": b"_background_\ncat\n",
    }  # fmt: skip


def cvat():
    """The set at the top; a label map, a list called default, images in subfolders."""
    return {
        "labelmap.txt": b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\n",
        "JPEGImages/a.jpg": jpeg(0), "Annotations/a.xml": xml(["cat"], "a.jpg", "False"),
        "JPEGImages/day 1/b.jpg": jpeg(1), "Annotations/day 1/b.xml": xml([], "day 1/b.jpg"),
        "ImageSets/Main/default.txt": b"a\nday 1/b\n",
        "ImageSets/Main/cat_default.txt": b"a  1\n",
        "ImageSets/Main/background_default.txt": b"a -1\n",
    }  # fmt: skip


TABLE_IMAGES = {"img/a.jpg": jpeg(0), "img/b.jpg": jpeg(1), "img/c.jpg": jpeg(2)}


def table(text, encoding="utf-8", name="labels.csv"):
    return lambda: {**TABLE_IMAGES, name: text.encode(encoding)}


EXCEL = table(
    "File;Labels;Split\r\nimg\\a.jpg;cat|dog;train\r\nimg\\b.jpg;-;train\r\nimg\\c.jpg;dog;val\r\n;;\r\n",
    "utf-8-sig",
)
EXCEL_UNICODE = table("file\tlabels\nimg/a.jpg\tcat;dog\nimg/b.jpg\t-\nimg/c.jpg\tdog\n", "utf-16")
SEP = table("sep=;\r\nfile;labels\r\nimg/a.jpg;cat|dog\r\nimg/b.jpg;-\r\nimg/c.jpg;dog\r\n")
ONE_HOT = table("filename,cat,dog\na.jpg,1,1\nb.jpg,0,0\nc.jpg,0,1\n")
EXCEL_ONE_HOT = table(
    "FILE;cat;dog\r\nimg\\a.jpg;1;1\r\nimg\\b.jpg;0;0\r\nimg\\c.jpg;0;1\r\n", "utf-8-sig"
)
PANDAS = table(
    ",image,cat,dog,width\n0,img/a.jpg,True,True,40\n1,img/b.jpg,False,False,40\n"
    "2,img/c.jpg,False,True,40\n"
)
PANDAS_LABELS = table(",file,labels\n0,img/a.jpg,cat|dog\n1,img/b.jpg,-\n2,img/c.jpg,dog\n")
BY_STEM = table("image_name,tags\na,cat;dog\nb,-\nc,dog\n")

ROBOFLOW_CLASSES = {
    "train/a.jpg": jpeg(0), "train/b.jpg": jpeg(1), "valid/c.jpg": jpeg(2),
    "train/_classes.csv": b"filename, cat, dog\na.jpg, 1, 1\nb.jpg, 0, 0\n",
    "valid/_classes.csv": b"filename, cat, dog\nc.jpg, 0, 1\n",
}  # fmt: skip

ABC = {"pets/img/a.jpg": "cat dog", "pets/img/b.jpg": "", "pets/img/c.jpg": "dog"}


@pytest.mark.parametrize(
    ("tool", "lists", "labels"),
    [
        (labelimg, ["all"], {"a.jpg": "cat dog", "img (2).JPG": "dog", "img.jpg": None}),
        (roboflow, ["test", "train", "valid"], {
            "test/c_jpg.rf.2f.jpg": "", "train/a_jpg.rf.0f.jpg": "cat",
            "valid/b_jpg.rf.1f.jpg": "dog"}),
        (makesense, ["all"], {"images/a.png": "cat", "images/b.png": "cat dog"}),
        (labelme2voc, ["all"], {"JPEGImages/a.jpg": "cat", "JPEGImages/b.jpg": ""}),
        (cvat, ["default"], {"a": "cat", "day 1/b": ""}),
        (lambda: ROBOFLOW_CLASSES, ["train", "valid"], {
            "train/a.jpg": "cat dog", "train/b.jpg": "", "valid/c.jpg": "dog"}),
    ],
    ids=["labelImg", "Roboflow VOC", "makesense", "labelme2voc", "CVAT", "Roboflow classes"],
)  # fmt: skip
def test_what_a_tool_writes_is_read(tmp_path, tool, lists, labels):
    images = reading(tmp_path, tool())
    assert images.lists == [f"pets/{name}" for name in lists]
    found = {name.removeprefix("pets/"): value for name, value in zip_labels(images)}
    # An unannotated image leaves a list that is read without labels without any.
    assert found == labels


def zip_labels(images):
    for source in images.formats:
        for item in source.lists:
            for image in source.read(item):
                yield image.id, None if image.labels is None else " ".join(sorted(image.labels))


@pytest.mark.parametrize(
    "tool",
    [EXCEL, EXCEL_UNICODE, SEP, ONE_HOT, EXCEL_ONE_HOT, PANDAS, PANDAS_LABELS, BY_STEM],
    ids=["Excel", "Excel Unicode", "sep=", "one-hot", "Excel one-hot", "pandas", "index", "stems"],
)
def test_what_is_a_table_is_read(tmp_path, tool):
    assert read(reading(tmp_path, tool())) == ABC


def test_a_table_may_have_any_name(tmp_path):
    files = table("file,labels\nimg/a.jpg,cat;dog\nimg/b.jpg,-\nimg/c.jpg,dog\n", name="export.csv")
    with pytest.raises(SnojoeError, match=r"found 3 images, 0 XML files, 1 tables; labels: export"):
        reading(tmp_path, files())
    with pytest.raises(SnojoeError, match=r"pets: no table 'x\.csv'; there is 'export\.csv'"):
        reading(tmp_path, files(), tables=["x.csv"])
    assert read(reading(tmp_path, files(), tables=["export.csv"])) == ABC


def test_classes_of_cvat_are_not_its_background(tmp_path):
    images = reading(tmp_path, cvat())
    lists = ["pets/default"]
    splits = images.read({"train": lists, "val": lists, "test": lists})
    assert splits.classes == ["cat"]
    assert "disagree" not in "".join(splits.notes)


def test_folders_of_voc_in_other_capitals(tmp_path):
    files = {name.replace("JPEGImages", "jpegimages"): content for name, content in cvat().items()}
    images = reading(tmp_path, {name.replace("Main", "main"): files[name] for name in files})
    assert read(images, "pets/default") == {"pets/a": "cat", "pets/day 1/b": ""}


def test_a_zip_of_annotations_beside_the_images_is_read_in_place(tmp_path):
    files = makesense()
    packed = {name[12:]: files.pop(name) for name in list(files) if name.startswith("annotations")}
    images = reading(tmp_path, files | {"labels_pets.zip": zipped(packed, zipfile.ZIP_DEFLATED)})
    assert read(images) == {"pets/images/a.png": "cat", "pets/images/b.png": "cat dog"}


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<?xml version="1.0" encoding="utf8"?>', "utf-8"),
        ('<?xml version="1.0" encoding="gb2312"?>', "gb2312"),
        ('<?xml version="1.0" encoding="GBK"?>', "gbk"),
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-8"),  # .NET's StringWriter
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-16"),
        ('<?xml version="1.0" encoding="utf8"?>', "utf-8-sig"),
        ('<?xml version="1.0" encoding="shift_jis"?>', "shift_jis"),
        ('<?xml version="1.0" encoding="windows-1252"?>', "ascii"),
        ("", "utf-8"),
    ],
)
def test_annotations_in_any_encoding(tmp_path, head, encoding):
    label = "cat" if encoding == "ascii" else "犬"
    content = xml([label], head=head).decode().encode(encoding)
    assert read(reading(tmp_path, {"a.jpg": jpeg(), "a.xml": content})) == {"pets/a.jpg": label}


def test_an_unknown_encoding_is_named(tmp_path):
    content = xml(["cat"], head='<?xml version="1.0" encoding="klingon"?>')
    with pytest.raises(SnojoeError, match=r"a\.xml is not valid XML .*klingon"):
        read(reading(tmp_path, {"a.jpg": jpeg(), "a.xml": content}))


ONE = {"a": [("dog", False)]}


def voc(more=None, lines="a\n"):
    files = voc_files({**ONE, "a (2)": [("cat", False)]}, {"train": []})
    files["VOCdevkit/VOC2012/ImageSets/Main/train.txt"] = lines.encode()
    return files | {f"VOCdevkit/VOC2012/{name}": content for name, content in (more or {}).items()}


@pytest.mark.parametrize("other", ["a.png", "a.xml", "a.txt", "a.json", "._a.jpg"])
def test_what_lies_beside_an_image_is_not_taken_for_it(tmp_path, other):
    images = reading(tmp_path, voc({f"JPEGImages/{other}": jpeg(9)}))
    (image,) = images.images(["VOC2012/train"])
    assert image.name.endswith("JPEGImages/a.jpg")
    assert ("another of the same name" in told(images)) == (other == "a.png")


def test_the_annotation_says_which_of_two_images_it_is_of(tmp_path):
    more = {"JPEGImages/a.png": jpeg(9), "Annotations/a.xml": xml(["dog"], "a.png")}
    (image,) = reading(tmp_path, voc(more)).images(["VOC2012/train"])
    assert image.name.endswith("JPEGImages/a.png")


def test_of_two_images_neither_is_guessed(tmp_path):
    files = voc({"JPEGImages/a.jpeg": jpeg(9)})
    with pytest.raises(SnojoeError, match=r"one image of its name; got 'a\.jpeg', 'a\.jpg'"):
        reading(tmp_path, files).images(["VOC2012/train"])


@pytest.mark.parametrize(
    "line", ["a (2)", "a (2).jpg", "a (2) 1", "a (2)  -1", "./a (2)", "JPEGImages/a (2).jpg",
             "VOC2012\\JPEGImages\\a (2).jpg", "/home/me/JPEGImages/a (2).jpg"],
)  # fmt: skip
def test_names_in_lists_are_whole(tmp_path, line):
    images = reading(tmp_path, voc(lines=f"a\n{line}\n"))
    assert read(images, "VOC2012/train") == {"VOC2012/a": "dog", "VOC2012/a (2)": "cat"}


def test_a_missing_folder_level_says_what_is_there(tmp_path):
    files = voc_files(ONE, {"train": ["a"]})
    files = {name.replace("VOC2012/ImageSets", "ImageSets"): files[name] for name in files}
    with pytest.raises(SnojoeError, match=r"no image VOCdevkit/JPEGImages/a\.jpg for .* there is .*"
                       r"VOCdevkit/VOC2012/JPEGImages/a\.jpg"):  # fmt: skip
        reading(tmp_path, files).images(["VOCdevkit/train"])


def test_an_unrelated_table_does_not_stop_a_voc_set(tmp_path):
    images = reading(tmp_path, voc({"labels.csv": b"id,name\n1,cat\n"}))
    assert read(images, "VOC2012/train") == {"VOC2012/a": "dog"}
    assert "not used, since it is no table of labels" in told(images)


def test_a_link_has_its_own_name(tmp_path):
    write_folder(tmp_path / "target", labelimg())
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert LabelledImages([Archive(tmp_path / "link", tmp_path)]).lists == ["link/all"]


def zipped(files, method, name=lambda name: name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for each, content in files.items():
            archive.writestr(name(each), content)
    return buffer.getvalue()


def tarred(tmp_path, files):
    return write_tar(tmp_path / "plain.tar", files).read_bytes()


@pytest.mark.parametrize(
    "kind", ["zip stored", "zip deflated", "zip by Windows", "tar.xz", "tar.bz2"]
)
def test_an_archive_is_like_the_folder(tmp_path, kind):
    files = cvat()
    content = {
        "zip stored": lambda: zipped(files, zipfile.ZIP_STORED),
        "zip deflated": lambda: zipped(files, zipfile.ZIP_DEFLATED),
        "zip by Windows": lambda: zipped(
            files, zipfile.ZIP_DEFLATED, lambda n: n.replace("/", "\\")
        ),
        "tar.xz": lambda: lzma.compress(tarred(tmp_path, files)),
        "tar.bz2": lambda: bz2.compress(tarred(tmp_path, files)),
    }[kind]()
    path = tmp_path / f"pets.{kind if kind.startswith('tar') else 'zip'}"
    path.write_bytes(content)
    archive = Archive(path, tmp_path)
    assert dict(archive) == files
    assert read(LabelledImages([archive])) == {"pets/a": "cat", "pets/day 1/b": ""}


def test_negatives_are_said_in_every_format(tmp_path):
    images = reading(tmp_path, labelimg(), unannotated="negative")
    assert read(images, labelled=True)["pets/img.jpg"] == ""
    with pytest.raises(
        SnojoeError, match=r"1 of 3 images .*img\.jpg.* set data\.unannotated to neg"
    ):
        read(reading(tmp_path, {}), labelled=True)


@pytest.mark.parametrize("word", ["none", "None", "background", "No Finding"])
def test_a_label_that_may_mean_none_is_asked_about(tmp_path, word):
    files = table(f"file,labels\nimg/a.jpg,cat;dog\nimg/b.jpg,{word}\nimg/c.jpg,dog\n")()
    with pytest.raises(
        SnojoeError, match=rf"line 3: does the label '{word}' .*{{{word}: negative}}"
    ):
        read(reading(tmp_path, files))
    assert read(reading(tmp_path, files, meanings={word: "negative"})) == ABC
    as_class = read(reading(tmp_path, files, meanings={word: "class"}))
    assert as_class["pets/img/b.jpg"] == word
    unknown = reading(tmp_path, files, meanings={word: "unannotated"})
    assert set(read(unknown).values()) == {None}
    splits = {"train": ["pets/all"], "val": ["pets/all"], "test": ["pets/all"]}
    negative = reading(tmp_path, files, meanings={word: "negative"}).read(splits)
    assert negative.classes == ["cat", "dog"]
    assert any("show none of the classes: 1 of train" in line for line in negative.notes)


def test_none_and_a_class_contradict_one_another(tmp_path):
    files = table("file,labels\nimg/a.jpg,none;dog\n")()
    with pytest.raises(SnojoeError, match="line 2: expected 'none' alone"):
        read(reading(tmp_path, files, meanings={"none": "negative"}))


def test_a_class_that_only_val_has_is_taken(tmp_path):
    files = voc_files(
        {"a": [("dog", False)], "b": [("cat", False)]}, {"train": ["a"], "val": ["b"]}
    )
    images = reading(tmp_path, files)
    lists = {"train": ["VOC2012/train"], "val": ["VOC2012/val"], "test": ["VOC2012/val"]}
    assert images.read(lists).classes == ["cat", "dog"]


def test_names_of_a_mac_are_those_of_the_table(tmp_path):
    files = {"cafe\u0301.jpg": jpeg(), "labels.csv": "file,labels\ncaf\u00e9.JPG,cat\n".encode()}
    assert read(reading(tmp_path, files)) == {"pets/cafe\u0301.jpg": "cat"}


def test_two_annotations_of_one_image_are_named(tmp_path):
    files = {"images/a.jpg": jpeg(), "x/a.xml": xml(["cat"]), "y/a.xml": xml(["dog"])}
    with pytest.raises(SnojoeError, match=r"images/a\.jpg has two annotations: x/a\.xml and y/a"):
        reading(tmp_path, files)


def test_hard_links_in_a_tar_are_files(tmp_path):
    path = write_tar(tmp_path / "pets.tar", labelimg())
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
        archive.addfile(link)
        away = tarfile.TarInfo("c.jpg")
        away.type, away.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(away)
    archive = Archive(path, tmp_path)
    assert archive["b.jpg"] == archive["a.jpg"]
    assert archive.left_out == {"symbolic links to what is not in the archive": ["c.jpg"]}


def test_annotations_of_labelme_and_body_parts_are_no_classes(tmp_path):
    files = {"a.jpg": jpeg(), "a.xml": annotation([("dog", False)])}
    assert read(reading(tmp_path, files)) == {"pets/a.jpg": "dog"}
