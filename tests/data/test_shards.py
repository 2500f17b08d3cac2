import os
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_data import BYTES
from conftest import jpeg

from snojoe.data import shards
from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_sums


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """150 images in two shards, image i of the value i; two row groups in the first."""
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 128)
    rows = (ShardRow(str(i), bytes([i]) * 12, None) for i in range(150))
    write_shards(tmp_path, rows, split="test", content="pixels", image_size=2)
    return tmp_path


@pytest.mark.parametrize("rows", [[0, 63, 64, 127, 128, 149], [5], [70, 71, 145]])
def test_pixels_are_those_of_the_rows(folder, rows):
    pixels = Shards(folder).pixels(np.array(rows))
    assert pixels.shape == (len(rows), 2, 2, 3)
    assert pixels[:, 0, 0, 0].tolist() == rows


def test_a_set_may_have_more_files_than_a_process_may_open(folder):
    def opened():
        links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        return [link for link in links if link.startswith(str(folder))]

    whole = Shards(folder)
    assert opened() == []
    batches = whole.batches(64)
    next(batches)
    assert len(opened()) <= 1  # it may be mapped
    assert sum(len(batch.ids) for batch in batches) == 150 - 64
    whole.table(["id"])
    assert opened() == []


def damage(folder, row):
    """Another value for one pixel of a row: it stands twelve times in a row and nowhere else."""
    (path,) = (p for p in folder.glob("*.parquet") if bytes([row]) * 12 in p.read_bytes())
    path.write_bytes(path.read_bytes().replace(bytes([row]) * 12, bytes([row]) * 11 + b"?"))


def test_damage_is_named_where_it_is_read(folder):
    damage(folder, 70)
    with pytest.raises(SnojoeError, match=r"00000\.parquet: damaged; SHA256SUMS has another sum"):
        Shards(folder)
    shards = Shards(folder, whole=False)
    assert shards.pixels(np.array([5, 145])).shape[0] == 2
    assert len(shards.table(["id"])) == 150
    with pytest.raises(SnojoeError, match=r"00000\.parquet: damaged shard"):
        shards.pixels(np.array([5, 71]))


def test_few_rows_of_damaged_shards_are_right_or_refused(folder):
    rows = np.array([5, 71, 145])
    path = folder / "00000.parquet"
    good = path.read_bytes()

    def read():
        shards = Shards(folder, whole=False)
        return shards.pixels(rows).tolist(), shards.table(["id"])["id"].to_pylist()

    expected, rng, refused = read(), random.Random(0), 0
    for i in range(200):
        path.write_bytes(BYTES[i % len(BYTES)](good, rng))
        try:
            assert read() == expected
        except SnojoeError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("content", ["image", "pixels"])
@pytest.mark.parametrize("size", [1, 32, 48, 64, 100, 128, 200])
def test_batches_end_with_files_and_can_be_taken_in_turns(tmp_path, monkeypatch, content, size):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 128)
    image = jpeg(0, (2, 2))
    rows = (
        ShardRow(str(i), image if content == "image" else bytes([i]) * 12, np.array([i % 2, 1]))
        for i in range(150)
    )
    write_shards(tmp_path, rows, split="test", content=content, image_size=2)
    stored = Shards(tmp_path)
    batches = list(stored.batches(size))
    ends = [min(start + size, 128) for start in range(0, 128, size)]
    ends += [128 + min(start + size, 22) for start in range(0, 22, size)]
    assert [int(batch.ids[-1]) + 1 for batch in batches] == ends
    assert [i for batch in batches for i in batch.ids] == [str(i) for i in range(150)]
    assert [row[0] for batch in batches for row in batch.labels] == [i % 2 for i in range(150)]
    if content == "pixels":
        assert [p[0, 0, 0] for batch in batches for p in batch.pixels] == list(range(150))
    assert stored.batch_count(size) == len(batches)
    for first in range(3):
        mine = list(stored.batches(size, first, 3))
        assert [batch.ids for batch in mine] == [batch.ids for batch in batches[first::3]]
        for one, other in zip(mine, batches[first::3], strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)


def test_batches_are_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 64)
    size = 12 * 100 * 100
    rows = (ShardRow(str(i), bytes(3 * 200 * 200), None) for i in range(10 * 64))
    write_shards(tmp_path, rows, split="test", content="pixels", image_size=200)
    stored, before, most = Shards(tmp_path), pa.total_allocated_bytes(), 0
    for _ in stored.batches(16):
        most = max(most, pa.total_allocated_bytes() - before)
    assert 64 * size < most < 2.5 * 64 * size  # of ten files


def encoded(folder, images):
    rows = [ShardRow(str(i), image, np.array([1])) for i, image in enumerate(images)]
    write_shards(folder, rows, split="train", content="image", image_size=2)


def test_encoded_images_are_the_bytes_that_were_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 128)
    images = [bytes([i]) * (i + 1) for i in range(150)]
    encoded(tmp_path / "one", images)
    encoded(tmp_path / "two", images)
    names = ["00000.arrow", "00001.arrow", "SHA256SUMS"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:  # DVC's checksums of them are those of other machines
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    stored = Shards(tmp_path / "one").encoded()
    assert [stored[i] for i in range(len(stored))] == images


def test_what_an_earlier_version_stored_is_named(tmp_path):
    table = pa.table(
        {"id": ["a"], "split": ["train"], "labels": [[1]], "groups": [[]], "image": [b"a"]},
        shards._schema("image").with_metadata({"snojoe": '{"image_size": 2}'}),
    )
    pq.write_table(table, tmp_path / "00000.parquet")
    write_sums(tmp_path)
    with pytest.raises(SnojoeError, match="as an earlier version stored them; expected Arrow"):
        Shards(tmp_path)


def test_damage_to_encoded_images_is_named_however_few_are_wanted(tmp_path):
    encoded(tmp_path, [b"image" * 20])
    path = tmp_path / "00000.arrow"
    path.write_bytes(path.read_bytes().replace(b"imageimage", b"imagfimage", 1))
    for whole in (True, False):
        with pytest.raises(SnojoeError, match=r"00000\.arrow: damaged; SHA256SUMS has another"):
            Shards(tmp_path, whole=whole)


def test_row_groups_without_a_wanted_row_are_not_read(folder, monkeypatch):
    read = []
    opened = Shards(folder)
    batch = opened._batch
    monkeypatch.setattr(
        opened, "_batch", lambda records: read.append(len(records)) or batch(records)
    )
    opened.pixels(np.array([1, 145]))
    assert read == [64, 22]
