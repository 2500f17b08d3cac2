import random

import numpy as np
import pytest
from bad_data import BYTES

from snojoe.data import shards
from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.support.errors import SnojoeError


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


def test_row_groups_without_a_wanted_row_are_not_read(folder, monkeypatch):
    read = []
    opened = Shards(folder)
    batch = opened._batch
    monkeypatch.setattr(
        opened, "_batch", lambda records: read.append(len(records)) or batch(records)
    )
    opened.pixels(np.array([1, 145]))
    assert read == [64, 22]
