import io
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from snojoe.data import digits
from snojoe.data.digits import CLASSES, NOVEL_CLASSES, write_digits

COUNTS = {"train": 28, "val": 7, "test": 7, "ood": 6}
SIZE = 64
MAIN = "VOCdevkit/DIGITS/ImageSets/Main"


def read_tar(path):
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def lines(members, name):
    return members[f"{MAIN}/{name}.txt"].decode().splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder, **COUNTS, size=SIZE, seed=0)
    return folder


@pytest.fixture(scope="module")
def voc(folder):
    return read_tar(folder / "digits.tar")


@pytest.fixture(scope="module")
def annotations(voc):
    return {
        name.rsplit("/", 1)[1].removesuffix(".xml"): ElementTree.fromstring(content)
        for name, content in voc.items()
        if "/Annotations/" in name
    }


def test_only_the_archives_are_left_in_the_folder(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"digits.tar", "novel_digits.tar", "textures.tar"}


def test_same_arguments_give_the_same_bytes(folder, tmp_path):
    write_digits(tmp_path, **COUNTS, size=SIZE, seed=0)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("name", ["digits.tar", "novel_digits.tar", "textures.tar"])
def test_another_seed_gives_other_images(folder, tmp_path, name):
    write_digits(tmp_path, **COUNTS, size=SIZE, seed=1)
    ours, theirs = read_tar(folder / name), read_tar(tmp_path / name)
    common = [member for member in ours if member.endswith(".jpg") and member in theirs]
    assert common
    assert all(ours[member] != theirs[member] for member in common)


def test_a_split_does_not_depend_on_the_size_of_the_next(voc, tmp_path):
    write_digits(tmp_path, **{**COUNTS, "test": 9}, size=SIZE, seed=0)
    larger = read_tar(tmp_path / "digits.tar")
    image = f"VOCdevkit/DIGITS/JPEGImages/{lines(voc, 'test')[-1]}.jpg"
    assert larger[image] == voc[image]


@pytest.mark.parametrize("name", ["digits.tar", "novel_digits.tar", "textures.tar"])
def test_archive_metadata_is_fixed(folder, name):
    with tarfile.open(folder / name) as archive:
        members = archive.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_lists_the_images_asked_for(voc, split):
    ids = lines(voc, split)
    assert len(ids) == COUNTS[split]
    assert all(f"VOCdevkit/DIGITS/JPEGImages/{i}.jpg" in voc for i in ids)
    assert all(f"VOCdevkit/DIGITS/Annotations/{i}.xml" in voc for i in ids)


def test_splits_share_no_image(voc):
    ids = [i for split in ("train", "val", "test") for i in lines(voc, split)]
    assert len(set(ids)) == len(ids)


def test_trainval_is_train_and_val(voc):
    assert lines(voc, "trainval") == lines(voc, "train") + lines(voc, "val")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_class_lists_agree_with_the_annotations(voc, annotations, split):
    for name in CLASSES:
        for line in lines(voc, f"{name}_{split}"):
            image_id, mark = line.split()
            difficult = [
                obj.findtext("difficult")
                for obj in annotations[image_id].findall("object")
                if obj.findtext("name") == name
            ]
            expected = "-1" if not difficult else "0" if set(difficult) == {"1"} else "1"
            assert mark == expected, (image_id, name)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_class_has_a_positive_in_every_split(voc, annotations, split):
    present = {obj.text for i in lines(voc, split) for obj in annotations[i].iter("name")}
    assert present == set(CLASSES)


def test_scenes_hold_one_to_three_distinct_digits(annotations):
    for root in annotations.values():
        names = [name.text for name in root.iter("name")]
        assert 1 <= len(names) <= 3
        assert len(set(names)) == len(names)


def test_annotation_names_its_image_and_size(voc, annotations):
    for image_id, root in annotations.items():
        image = Image.open(io.BytesIO(voc[f"VOCdevkit/DIGITS/JPEGImages/{image_id}.jpg"]))
        assert root.findtext("filename") == f"{image_id}.jpg"
        assert image.size == (int(root.findtext("size/width")), int(root.findtext("size/height")))
        assert image.size == (SIZE, SIZE)


def test_box_fits_the_strokes():
    glyph = Image.new("L", (8, 8))
    glyph.paste(255, (2, 1, 6, 7))  # 4 wide, 6 high
    scene = digits._scene(
        {"one": [digits.Glyph(0, glyph)]}, ["one"], SIZE, np.random.default_rng(0)
    )
    box = scene.objects[0].box
    inside = np.asarray(scene.image.crop(box), dtype=float).max(axis=2)
    assert inside[1:-1, 1:-1].min() > 255 * 0.75 * 0.8  # the faintest ink, less some noise
    assert (box.bottom - box.top) / (box.right - box.left) == pytest.approx(6 / 4, rel=0.15)


def test_boxes_lie_inside_the_image(annotations):
    for root in annotations.values():
        for box in root.iter("bndbox"):
            xmin, ymin, xmax, ymax = (
                int(box.findtext(t)) for t in ("xmin", "ymin", "xmax", "ymax")
            )
            assert 1 <= xmin < xmax <= SIZE
            assert 1 <= ymin < ymax <= SIZE


def test_no_handwriting_serves_two_splits():
    glyphs = digits.load_glyphs()
    splits = digits.split_glyphs({name: glyphs[name] for name in CLASSES}, seed=0)
    for name in CLASSES:
        used = [id(glyph) for split in splits.values() for glyph in split[name]]
        assert len(set(used)) == len(used) == len(glyphs[name])


def test_novel_digits_hold_the_unseen_classes_only(folder):
    members = read_tar(folder / "novel_digits.tar")
    assert {name.split("/")[0] for name in members} == {*NOVEL_CLASSES, "groups.csv"}
    assert not set(NOVEL_CLASSES) & set(CLASSES)


def test_textures_are_of_four_kinds_and_fill_their_images(folder):
    members = read_tar(folder / "textures.tar")
    assert {name.split("/")[0] for name in members} == {"cells", "gratings", "noise", "weaves"}
    for content in members.values():
        pixels = np.asarray(Image.open(io.BytesIO(content)), dtype=float)
        for half in (pixels[: SIZE // 2], pixels[:, : SIZE // 2]):
            assert half.std(axis=(0, 1)).max() > 4, "a pattern, not a plain ground"


def test_groups_say_which_scenes_share_a_digit(folder, voc):
    novel = read_tar(folder / "novel_digits.tar")
    for members, name, images in (
        (voc, "VOCdevkit/DIGITS/groups.csv", sum(COUNTS.values()) - COUNTS["ood"]),
        (novel, "groups.csv", COUNTS["ood"]),
    ):
        header, *rows = members[name].decode().splitlines()
        assert header == "file,group"
        assert len(rows) == images
        for row in rows:
            file, groups = row.split(",")
            assert f"{Path(name).parent / file}" in members
            assert 1 <= len(groups.split(";")) <= 3


def test_no_digit_image_serves_two_splits(voc):
    rows = [row.split(",") for row in voc["VOCdevkit/DIGITS/groups.csv"].decode().splitlines()]
    groups = {Path(file).stem: set(group.split(";")) for file, group in rows[1:]}
    used = [set().union(*(groups[i] for i in lines(voc, s))) for s in ("train", "val", "test")]
    assert all(len(each) > 5 for each in used)
    assert sum(map(len, used)) == len(set().union(*used))


@pytest.mark.parametrize("name", ["novel_digits.tar", "textures.tar"])
def test_ood_archive_holds_the_images_asked_for(folder, name):
    members = read_tar(folder / name)
    images = [Image.open(io.BytesIO(members[name])) for name in members if name.endswith(".jpg")]
    assert [image.size for image in images] == [(SIZE, SIZE)] * COUNTS["ood"]


def test_an_interrupted_write_leaves_the_old_archive(tmp_path, monkeypatch):
    path = tmp_path / "digits.tar"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(tarfile.TarFile, "addfile", fail)
    with pytest.raises(OSError, match="disk full"):
        digits._write_tar(path, {"a": b"new"})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"digits.tar": b"old"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("train", 0), ("val", -1), ("test", 0), ("ood", 0), ("size", 31), ("seed", -1)],
)
def test_too_small_a_number_is_refused_by_name(tmp_path, name, value):
    arguments = {**COUNTS, "size": SIZE, "seed": 0, name: value}
    with pytest.raises(ValueError, match=f"{name} must be at least .*, got {value}"):
        write_digits(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
