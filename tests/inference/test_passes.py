import numpy as np
import pytest
import torch

from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.detectors.outputs import load_outputs
from snojoe.inference.passes import write_outputs
from snojoe.inference.perturbation import Noise, odin_loss
from snojoe.model.classifier import build_classifier
from snojoe.model.pixels import normalise

SIZE, COUNT = 16, 11


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return [build_classifier("resnet10", 3).eval() for _ in range(2)]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)


def shards(folder, pixels, labelled):
    labels = np.eye(3, dtype=np.uint8)[np.arange(COUNT) % 3]
    rows = [
        ShardRow(f"set/{i}", p.tobytes(), labels[i] if labelled else None)
        for i, p in enumerate(pixels)
    ]
    write_shards(folder, rows, split="val", content="pixels", image_size=SIZE)
    return Shards(folder), labels


def test_one_pass_gives_what_each_model_says_of_each_image(models, pixels, tmp_path):
    images, labels = shards(tmp_path / "val", pixels, labelled=True)
    targets = [tmp_path / "a", tmp_path / "b"]
    write_outputs(models, images, targets, batch_size=4)
    for model, target in zip(models, targets, strict=True):
        outputs = load_outputs(target)
        with torch.no_grad():
            expected = model.outputs(normalise(torch.from_numpy(pixels)))
        for name, values in expected._asdict().items():
            np.testing.assert_allclose(
                getattr(outputs, name), values.numpy(), rtol=1e-4, atol=1e-5, err_msg=name
            )
        np.testing.assert_array_equal(outputs.labels, labels)
        assert np.load(target / "ids.npy").tolist() == [f"set/{i}" for i in range(COUNT)]


def test_unlabelled_images_have_no_labels(models, pixels, tmp_path):
    images, _ = shards(tmp_path / "ood", pixels, labelled=False)
    write_outputs(models[:1], images, [tmp_path / "a"], batch_size=16)
    assert load_outputs(tmp_path / "a").labels is None


def test_what_a_score_reads_of_noisy_images_takes_the_place_of_the_clean(models, pixels, tmp_path):
    images, _ = shards(tmp_path / "ood", pixels, labelled=False)
    without, targets = [tmp_path / "a", tmp_path / "b"], [tmp_path / "c", tmp_path / "d"]
    write_outputs(models, images, without, batch_size=4)
    noises = [{"odin": Noise("logits", odin_loss, 0.01)}, {}]
    write_outputs(models, images, targets, batch_size=4, noises=noises)
    clean, noisy = load_outputs(targets[0]), load_outputs(targets[0], "odin")
    assert (noisy.logits != clean.logits).all()
    assert (noisy.features == clean.features).all()
    assert (load_outputs(targets[0], "mahalanobis").logits == clean.logits).all()
    assert not list(targets[1].glob("odin*"))
    for before, after in zip(without, targets, strict=True):
        for name in ("logits", "features", "hidden"):
            expected, found = (np.load(each / f"{name}.npy") for each in (before, after))
            np.testing.assert_array_equal(found, expected)
