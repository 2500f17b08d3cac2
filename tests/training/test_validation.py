import numpy as np
import pytest
import torch

from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.model.classifier import build_classifier
from snojoe.model.pixels import normalise
from snojoe.training.validation import predict_logits

SIZE, COUNT = 16, 11


@pytest.mark.parametrize("labelled", [True, False])
def test_logits_and_labels_of_all_images_by_a_model_in_eval_mode(labelled, tmp_path):
    torch.manual_seed(0)
    model = build_classifier("resnet10", 3).train()
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.eye(3, dtype=np.uint8)[np.arange(COUNT) % 3]
    rows = [
        ShardRow(f"set/{i}", p.tobytes(), labels[i] if labelled else None)
        for i, p in enumerate(pixels)
    ]
    write_shards(tmp_path / "set", rows, split="val", content="pixels", image_size=SIZE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits, found = predict_logits(model, Shards(tmp_path / "set"), batch_size=5)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        expected = model(normalise(torch.from_numpy(pixels))).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    if labelled:
        np.testing.assert_array_equal(found, labels)
    else:
        assert found is None
