import ctypes
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import jpeg
from torchvision import transforms

from snojoe.data.images import decode
from snojoe.data.shards import ShardRow, write_shards
from snojoe.model.pixels import normalise
from snojoe.model.preprocessing import MEAN, STD
from snojoe.support.errors import SnojoeError
from snojoe.training import loader
from snojoe.training.loader import TrainSet, TrainTransform, train_loader


@pytest.fixture
def folder(tmp_path):
    rows = [ShardRow(str(i), jpeg(i), np.array([i % 2, 1])) for i in range(10)]
    write_shards(tmp_path, rows, split="train", content="image", image_size=16)
    return tmp_path


def train_set(folder, seed=0, flip=0.5):
    return TrainSet(folder, TrainTransform(16, (0.5, 2.0), flip), seed)


def test_normalisation_is_torchvisions():
    pixels = torch.randint(0, 256, (2, 8, 9, 3), dtype=torch.uint8)
    expected = transforms.Normalize(MEAN, STD)(pixels.permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(normalise(pixels), expected)


@pytest.mark.parametrize("size", [(40, 30), (25, 60), (16, 16)])
def test_the_crop_is_the_protocols_from_the_original_pixels(size):
    image = decode(jpeg(3, size))
    protocol = transforms.Compose(
        [transforms.RandomHorizontalFlip(), transforms.RandomResizedCrop(16, scale=(0.5, 2.0))]
    )
    for seed in range(20):
        mine = TrainTransform(16, (0.5, 2.0), 0.5)(np.array(image), seed).numpy()
        torch.manual_seed(seed)
        theirs = np.asarray(protocol(image))
        # Rounding; in this noise, a box that is one pixel off would differ by far more.
        assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= 1


def test_augmentation_depends_on_seed_epoch_and_index_alone(folder):
    one, two = train_set(folder), train_set(folder)
    torch.manual_seed(5)
    first = one[3][0]
    two[7]  # other accesses change nothing
    assert torch.equal(first, two[3][0])
    assert not torch.equal(first, two[len(two) + 3][0])  # the next epoch
    assert not torch.equal(first, train_set(folder, seed=1)[3][0])


@pytest.mark.parametrize("room", [0, 5000])
def test_encoded_and_decoded_images_give_the_same_crops(folder, monkeypatch, room):
    everything = train_set(folder)
    assert len(everything.images) == 10
    monkeypatch.setattr(loader, "_KEPT_BYTES", room)
    part = train_set(folder)
    assert len(part.images) == room // (40 * 30 * 3)
    for i in range(10):
        assert torch.equal(part[i][0], everything[i][0])


def test_a_second_pass_sees_the_crops_of_the_first_as_far_as_there_is_room(folder, monkeypatch):
    images, crops = 10 * 40 * 30 * 3, 7 * 16 * 16 * 3
    monkeypatch.setattr(loader, "_KEPT_BYTES", images + crops)
    dataset, fresh = train_set(folder), train_set(folder)
    made = []
    monkeypatch.setattr(dataset, "_crop", lambda *at: made.append(at) or fresh._crop(*at))
    for epoch in (0, 1, 0):
        made.clear()
        for _ in range(2):
            for i in range(10):
                assert torch.equal(dataset[10 * epoch + i][0], fresh._crop(epoch, i))
        assert made == [(epoch, i) for i in (*range(10), 7, 8, 9)]


def test_pixels_are_no_train_split(tmp_path):
    rows = [ShardRow("a", bytes(12), np.array([1]))]
    write_shards(tmp_path, rows, split="train", content="pixels", image_size=2)
    with pytest.raises(SnojoeError, match="expected original images; found pixels"):
        train_set(tmp_path)


def test_a_worker_that_is_not_forked_maps_the_images_again(folder, monkeypatch):
    monkeypatch.setattr(loader, "_KEPT_BYTES", 0)
    dataset = train_set(folder)
    pickled = pickle.dumps(dataset)
    assert dataset.encoded[3] not in pickled
    assert torch.equal(pickle.loads(pickled)[3][0], dataset[3][0])


ROWS, IMAGE_BYTES = 400, 100_000


def test_memory_does_not_hold_the_images(tmp_path, monkeypatch):
    """40 MB of encoded images, all of them read: kept, they would stand in memory that is ours."""
    monkeypatch.setattr(loader, "_KEPT_BYTES", 0)
    image = jpeg(0)
    rows = (
        ShardRow(str(i), image + random.Random(i).randbytes(IMAGE_BYTES), np.array([1]))
        for i in range(ROWS)
    )
    write_shards(tmp_path, rows, split="train", content="image", image_size=16)
    dataset = train_set(tmp_path)
    dataset[0]
    ctypes.CDLL(None).malloc_trim(0)  # what other tests have freed would hide what is kept
    before = own_memory()
    dataset = train_set(tmp_path)
    for batch in train_loader(dataset, 16, 0):
        assert len(batch[0]) == 16
    assert own_memory() - before < ROWS * IMAGE_BYTES / 4
    held = [dataset.encoded[i] for i in range(ROWS)]
    assert own_memory() - before > 0.5 * sum(map(len, held))  # the measure can fail


def own_memory():
    """Bytes of memory that is this process's own or shared, and no file's."""
    status = Path("/proc/self/status").read_text()
    return sum(1024 * int(kb) for kb in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.M))


@pytest.mark.parametrize("workers", [0, 2])
def test_order_and_crops_depend_on_seed_and_epoch_alone(folder, workers):
    dataset = train_set(folder)
    loader = train_loader(dataset, 4, workers)

    def epoch(number, loader=loader):
        dataset.epoch = number  # workers that live on since another epoch must follow
        return torch.cat([pixels for pixels, _ in loader])

    first = epoch(0)
    assert first.shape == (8, 16, 16, 3)
    assert not torch.equal(first, epoch(1))
    assert torch.equal(first, epoch(0))
    assert torch.equal(epoch(1), epoch(1, train_loader(dataset, 4, 0)))
