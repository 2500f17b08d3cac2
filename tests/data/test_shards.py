import numpy as np
import pytest

from snojoe.data import shards
from snojoe.data.shards import Row, Shards, write_shards


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """150 images in two shards, image i of the value i; two row groups in the first."""
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 128)
    rows = (Row(str(i), bytes([i]) * 12, None) for i in range(150))
    write_shards(tmp_path, rows, split="test", content="pixels", image_size=2)
    return tmp_path


@pytest.mark.parametrize("rows", [[0, 63, 64, 127, 128, 149], [5], [70, 71, 145]])
def test_pixels_are_those_of_the_rows(folder, rows):
    pixels = Shards(folder).pixels(np.array(rows))
    assert pixels.shape == (len(rows), 2, 2, 3)
    assert pixels[:, 0, 0, 0].tolist() == rows


def test_row_groups_without_a_wanted_row_are_not_read(folder, monkeypatch):
    read = []
    opened = Shards(folder)
    batch = opened._batch
    monkeypatch.setattr(
        opened, "_batch", lambda records: read.append(len(records)) or batch(records)
    )
    opened.pixels(np.array([1, 145]))
    assert read == [64, 22]
