import json

import numpy as np
import pytest
from conftest import jpeg, voc_files, write_folder, write_tar
from torchvision import transforms

from snojoe.data.images import decode
from snojoe.data.prepare import prepare
from snojoe.data.prepared import read_classes, read_prepared_sets
from snojoe.data.shards import ROWS_PER_GROUP, ROWS_PER_SHARD, ShardRow, Shards, write_shards
from snojoe.params import Data
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_sums

IMAGES = {
    "a": [("dog", False), ("person", True)],
    "b": [("person", False)],
    "c": [("person", False)],
    "d": [("dog", False)],
}
LISTS = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def data(tmp_path, files=None, more=None, **changes):
    write_tar(tmp_path / "voc.tar", voc_files(IMAGES, LISTS) if files is None else files)
    write_folder(tmp_path / "ood", {"x/1.JPEG": jpeg(7), "x/note.txt": b"", "x/._1.jpg": b""})
    write_folder(tmp_path / "ood", more or {})
    values = {
        "folder": str(tmp_path),
        "id": [{"path": "voc.tar"}],
        "ood": {"other": {"path": "ood"}},
        "splits": {"train": ["VOC2012/train"], "val": ["VOC2012/val"], "test": ["VOC2012/test"]},
        "image_size": 24,
        "difficult": True,
        "max_bad_share": 0.0,
        "expected": None,
        "digits": {"size": 32, "train": 1, "val": 1, "test": 1, "ood": 1, "seed": 0},
    }
    return Data.model_validate(values | changes)


def run(tmp_path, settings, say=print):
    prepare(settings, lambda source: tmp_path / source.path, tmp_path / "prepared", say)
    return tmp_path / "prepared"


def test_what_evaluation_sees_is_the_protocol_to_the_pixel(tmp_path):
    prepared = run(tmp_path, data(tmp_path))
    protocol = transforms.Resize((24, 24))
    for split, seed in (("val", 2), ("test", 3), ("ood/other", 7)):
        (batch,) = Shards(prepared / split).batches(8)
        expected = np.asarray(protocol(decode(jpeg(seed))))
        np.testing.assert_array_equal(batch.pixels, expected[None])
    (batch,) = Shards(prepared / "train").batches(8)
    np.testing.assert_array_equal(batch.pixels[1], np.asarray(protocol(decode(jpeg(1)))))


def test_train_keeps_the_original_bytes_and_labels(tmp_path):
    prepared = run(tmp_path, data(tmp_path))
    shards = Shards(prepared / "train")
    assert shards.table(["image"])["image"].to_pylist() == [jpeg(0), jpeg(1)]
    np.testing.assert_array_equal(shards.labels(), [[1, 1], [0, 1]])
    assert json.loads((prepared / "classes.json").read_text()) == ["dog", "person"]
    assert Shards(prepared / "ood/other").labels() is None


def test_a_class_without_a_positive_is_said(tmp_path, lines):
    said, say = lines
    run(tmp_path, data(tmp_path), say)
    assert "val: no image is positive for dog: its AP is undefined" in said


def test_an_image_that_does_not_decode_is_named_and_counted(tmp_path, lines):
    said, say = lines
    broken = {"x/2.jpg": jpeg(1)[:200], "x/3.jpg": b""}
    prepared = run(tmp_path, data(tmp_path, more=broken, max_bad_share=0.7), say)
    report = json.loads((prepared / "report.json").read_text())["ood"]["other"]
    assert report["images"] == 1
    assert len(report["undecodable"]) == 2
    assert "2.jpg" in report["undecodable"][0]
    assert any("left out" in line and "3.jpg (empty)" in line for line in said)


def test_later_steps_read_what_was_written(tmp_path):
    prepared = run(tmp_path, data(tmp_path))
    sets = read_prepared_sets(prepared)
    assert {split: written.images for split, written in sets.id.items()} == {
        "train": 2,
        "val": 1,
        "test": 1,
    }
    assert sets.ood["other"].images == 1
    assert not sets.id_test_is_val
    assert read_classes(prepared) == ["dog", "person"]


@pytest.mark.parametrize("content", [None, "{", '{"id": {}}'])
def test_a_damaged_account_of_the_sets_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(SnojoeError, match=r"report\.json: not readable"):
        read_prepared_sets(tmp_path)


def test_too_many_undecodable_images_stop_and_leave_what_was_there(tmp_path):
    prepared = run(tmp_path, data(tmp_path))
    before = sorted(prepared.rglob("*"))
    broken = {"x/2.jpg": b"no", "x/3.jpg": b""}
    with pytest.raises(SnojoeError, match=r"more than 50\.0% of 3 images .*max_bad_share.*\n.*2\."):
        run(tmp_path, data(tmp_path, more=broken, max_bad_share=0.5))
    assert sorted(prepared.rglob("*")) == before
    assert not list(tmp_path.glob(".*"))


def test_an_empty_ood_set_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SnojoeError, match=r"data\.ood\.nothing: .*empty holds no image"):
        run(tmp_path, data(tmp_path, ood={"nothing": {"path": "empty"}}))


def test_an_image_in_two_splits_is_named(tmp_path):
    files = voc_files(IMAGES, LISTS | {"val": ["c", "a"]})
    with pytest.raises(SnojoeError, match="VOC2012/a is in both train and val"):
        run(tmp_path, data(tmp_path, files))


def test_val_may_serve_as_the_test_set_by_choice(tmp_path):
    splits = {"train": ["VOC2012/train"], "val": ["VOC2012/val"], "test": ["VOC2012/val"]}
    prepared = run(tmp_path, data(tmp_path, splits=splits))
    val, test = (next(Shards(prepared / split).batches(8)) for split in ("val", "test"))
    np.testing.assert_array_equal(val.pixels, test.pixels)
    assert json.loads((prepared / "report.json").read_text())["id_test_is_val"] is True


def test_test_and_val_may_not_overlap_in_part(tmp_path):
    files = voc_files(IMAGES, LISTS | {"test": ["c", "d"]})
    with pytest.raises(SnojoeError, match="VOC2012/c is in both val and test"):
        run(tmp_path, data(tmp_path, files))


def test_shards_hold_rows_in_order_across_files(tmp_path):
    count = ROWS_PER_SHARD + ROWS_PER_GROUP + 1
    rows = (ShardRow(str(i), bytes([i % 256]) * 12, np.array([i % 2, 1])) for i in range(count))
    assert write_shards(tmp_path, rows, split="val", content="pixels", image_size=2) == count
    shards = Shards(tmp_path)
    assert len(shards.paths) == 2
    assert len(shards) == count
    batches = list(shards.batches(100))
    assert [i for b in batches for i in b.ids] == [str(i) for i in range(count)]
    pixels = np.concatenate([b.pixels for b in batches])
    assert pixels.shape == (count, 2, 2, 3)
    np.testing.assert_array_equal(pixels[:, 0, 0, 0], np.arange(count) % 256)


def test_a_damaged_shard_is_named(tmp_path):
    rows = [ShardRow("a", bytes(12), np.array([1]))]
    write_shards(tmp_path, rows, split="val", content="pixels", image_size=2)
    shard = tmp_path / "00000.parquet"
    good = shard.read_bytes()
    shard.write_bytes(good[:60] + b"?" + good[61:])
    with pytest.raises(SnojoeError, match=r"00000\.parquet: damaged; SHA256SUMS has another sum"):
        Shards(tmp_path)
    shard.write_bytes(b"PAR1 not really")
    write_sums(tmp_path)
    with pytest.raises(SnojoeError, match=r"00000\.parquet: damaged shard"):
        Shards(tmp_path)
    shard.unlink()
    with pytest.raises(SnojoeError, match=r"00000\.parquet: is missing"):
        Shards(tmp_path)
    with pytest.raises(SnojoeError, match=r"nowhere: .*SHA256SUMS is missing"):
        Shards(tmp_path / "nowhere")


def test_images_without_lists_are_split_by_shares(tmp_path, lines):
    said, say = lines
    images = {f"i{i}": [("dog", False)] if i % 3 else [] for i in range(30)}
    files = {name.replace("VOCdevkit/VOC2012/", ""): content
             for name, content in voc_files(images, {}).items()}  # fmt: skip
    shares = {"train": 0.6, "val": 0.2, "test": 0.2}
    prepared = run(tmp_path, data(tmp_path, files, splits=shares), say)
    sets = read_prepared_sets(prepared)
    assert sum(split.images for split in sets.id.values()) == 30
    assert not sets.id_test_is_val
    report = json.loads((prepared / "report.json").read_text())
    assert report["id"]["train"]["lists"] == 0.6
    assert any("images that show none of the classes" in line for line in said)
    assert "ood/other: left out: 1 .txt files (x/note.txt), 1 hidden files (x/._1.jpg)" in said
