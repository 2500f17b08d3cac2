import pytest
from conftest import jpeg, write_folder

from snojoe.data.archives import Archive
from snojoe.data.groups import Groups
from snojoe.data.label_table import LabelTable
from snojoe.data.labelled import LabelledImages
from snojoe.support.errors import SnojoeError


def archive(tmp_path, **tables):
    files = {"a.jpg": jpeg(0), "in/b.jpg": jpeg(1), "in/c d.jpg": jpeg(2)}
    tables = {name.replace("__", "/") + ".csv": text.encode() for name, text in tables.items()}
    return Archive(write_folder(tmp_path / "set", {**files, **tables}), tmp_path)


def test_images_have_the_groups_that_are_named(tmp_path):
    images = archive(
        tmp_path, groups="file,group\na.jpg,1\n", in__groups="group,file\n1; 2,b.jpg\n,c d.jpg\n"
    )
    groups = Groups([images])
    assert groups.of(images, "a.jpg") == ("1",)
    assert groups.of(images, "in/b.jpg") == ("1", "2")
    assert groups.of(images, "in/c d.jpg") == ()
    assert Groups([]).of(images, "a.jpg") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,patient\na.jpg,1\n", "groups.csv: expected a first line with file, group"),
        ("file,group\nb.jpg,1\n", "groups.csv: line 2: no such file 'b.jpg'"),
        ("file,group\na.jpg,1\na.jpg,2\n", "line 3: 'a.jpg' is in line 2 already"),
        ("file,group\na.jpg,1;;2\n", "line 2: expected groups joined by ; or |; got '1;;2'"),
        ("file,group\na.jpg\n", "line 2: expected as many fields as in the first line"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, message):
    with pytest.raises(SnojoeError) as error:
        Groups([archive(tmp_path, groups=text)])
    assert message in str(error.value)


def test_a_label_table_may_have_a_column_of_groups(tmp_path):
    table = "file,labels,split,group\na.jpg,cat,train,7\nin/b.jpg,dog,train,7|8\n"
    images = archive(tmp_path, labels=table, in__groups="file,group\nb.jpg,9\n")
    assert LabelTable(images, "labels.csv").read("set/train")[1].groups == ("7", "8")
    first, second = LabelledImages([images]).images(["set/train"])
    assert first.groups == ("7",)
    assert second.groups == ("9", "7", "8")
