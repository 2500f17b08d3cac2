import pytest
from conftest import jpeg, voc_files, write_folder

from snojoe.data.archives import Archive
from snojoe.data.found import Found
from snojoe.data.labelled import LabelledImages
from snojoe.data.shares import split_by_shares
from snojoe.support.errors import SnojoeError

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def images(names, groups=None):
    groups = groups or {}
    return [Found(f"set/{n}", None, n, frozenset(), "", groups.get(n, ())) for n in names]


def places(found, shares=SHARES):
    splits = split_by_shares(found, shares)
    return {image.id: split for split, found in splits.items() for image in found}


NAMES = [f"{i:05d}.jpg" for i in range(2000)]


def test_shares_are_met_on_average():
    counts = {split: len(found) for split, found in split_by_shares(images(NAMES), SHARES).items()}
    assert counts == {"train": 1369, "val": 327, "test": 304}  # a function of the names alone


def test_new_images_move_none():
    before, after = places(images(NAMES[:1000])), places(images([*NAMES[::-1], "new.jpg"]))
    assert all(after[name] == split for name, split in before.items())


def test_another_suffix_or_name_of_the_set_moves_none():
    one = places(images(NAMES))
    other = places([i._replace(id=i.id.replace("set/", "x/").replace(".jpg", ".png"))
                    for i in images(NAMES)])  # fmt: skip
    assert list(one.values()) == list(other.values())


def test_images_with_a_group_in_common_stay_together():
    groups = {name: (f"patient {i // 10}",) for i, name in enumerate(NAMES)}
    split = places(images(NAMES, groups))
    for start in range(0, len(NAMES), 10):
        assert len({split[f"set/{name}"] for name in NAMES[start : start + 10]}) == 1
    assert set(split.values()) == set(SHARES)


def test_crossed_groups_are_joined():
    # A chain: each image shares one group with the next.
    chain = {name: (f"g{i}", f"g{i + 1}") for i, name in enumerate(NAMES[:500])}
    split = places(images(NAMES, chain))
    assert len({split[f"set/{name}"] for name in chain}) == 1


def test_an_empty_split_is_named():
    with pytest.raises(SnojoeError, match=r"none of 2 images.* falls into (val|test) with a share"):
        places(images(NAMES[:2]))


def test_unsplit_photographs_of_patients_are_split_by_a_pattern(tmp_path):
    names = [f"patient{p}_{i}.jpg" for p in range(40) for i in range(3)]
    files = {name: jpeg() for name in names}
    rows = "".join(f"{name},{'cat' if i % 2 else '-'}\n" for i, name in enumerate(names))
    files |= {"labels.csv": f"file,labels\n{rows}other.jpg,\n".encode(), "other.jpg": jpeg()}
    archive = Archive(write_folder(tmp_path / "pets", files), tmp_path)
    read = LabelledImages([archive], group_pattern=r"^(patient\d+)_").read(SHARES)
    split = {e.id: s for s, examples in read.splits.items() for e in examples}
    assert len(split) == 120  # other.jpg is not annotated
    assert any("images without annotation" in line for line in read.notes)
    assert len({(e.groups, s) for s, es in read.splits.items() for e in es}) == 40
    assert all(e.groups == (e.id[5:].partition("_")[0],) for e in read.splits["train"])


def test_an_image_with_two_labels_of_two_formats_is_named(tmp_path):
    files = voc_files({"a": [("dog", False)]}, {"train": ["a"]}, name="pets")
    files["VOCdevkit/labels.csv"] = b"file,labels\npets/JPEGImages/a.jpg,cat\n"
    archive = Archive(write_folder(tmp_path / "both", files), tmp_path)
    with pytest.raises(SnojoeError, match=r"a\.jpg has labels in pets/Ann.*xml and in VOCdev"):
        LabelledImages([archive]).read(SHARES)
