"""What any network says of any images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import jpeg
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models as zoo
from torchvision.transforms.functional import pil_to_tensor

import snojoe
from snojoe.data.images import decode
from snojoe.detectors import DETECTORS, fit_detector
from snojoe.model.classifier import build_classifier

K = 5
IMAGES = torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 1, 0, 0]]).repeat(4, 1)[:7]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return zoo.resnet18(num_classes=K).train()


def expected(model):
    model.eval()
    with torch.no_grad():
        pooled = nn.Sequential(*list(model.children())[:-1])(IMAGES).flatten(1)
        logits = model(IMAGES)
    model.train()
    return logits, pooled


ITEMS = {
    "images": list(IMAGES),
    "generator": (image for image in IMAGES),
    "batches": [IMAGES[:4], IMAGES[4:]],
    "images and a batch": [IMAGES[0], IMAGES[1:]],
    "a loader": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=3),
    "mappings": [{"pixel_values": IMAGES, "labels": LABELS}],
}


@pytest.mark.parametrize("items", ITEMS)
def test_the_arrays_are_those_of_the_network(model, items):
    outputs = snojoe.extract(model, ITEMS[items], batch_size=3)
    logits, pooled = expected(model)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.hidden, pooled, rtol=1e-4, atol=1e-5)
    assert (outputs.features == outputs.hidden).all()
    assert {array.dtype for array in (outputs.logits, outputs.hidden)} == {np.dtype(np.float32)}
    labelled = items in ("a loader", "mappings")
    assert (outputs.labels == LABELS.numpy()).all() if labelled else outputs.labels is None
    head = snojoe.linear_head(model)
    np.testing.assert_allclose(head.logits(outputs.hidden), outputs.logits, rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_was(model):
    snojoe.extract(model, [IMAGES])
    assert model.training
    assert not model.fc._forward_pre_hooks


def test_pil_images_take_a_transform(model):
    images = [decode(jpeg(i, (32, 32))) for i in range(3)]
    outputs = snojoe.extract(model, images, transform=lambda each: pil_to_tensor(each) / 255)
    tensors = torch.stack([pil_to_tensor(each) / 255 for each in images])
    np.testing.assert_allclose(outputs.logits, snojoe.extract(model, [tensors]).logits, atol=1e-5)
    with pytest.raises(ValueError, match="transform: expected one"):
        snojoe.extract(model, images)


def test_images_are_streamed(model):
    alive, most = set(), []

    def images():
        for i in range(12):
            image = IMAGES[i % 7].clone()
            alive.add(i)
            most.append(len(alive))
            yield image
            del image

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, batch):
            alive.clear()
            return self.model(batch)

    outputs = snojoe.extract(Counting(), images(), head="model.fc", batch_size=4)
    assert len(outputs.logits) == 12
    assert max(most) == 4


class HuggingFaces(nn.Module):
    """A stand-in: logits as an attribute, a head with another name, a token sequence inside."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 16))
        self.classifier = nn.Linear(16, K)

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.classifier(self.body(pixel_values)), loss=None)


def test_logits_may_be_an_attribute():
    model = HuggingFaces()
    outputs = snojoe.extract(model, [IMAGES], head="classifier")
    torch.testing.assert_close(torch.from_numpy(outputs.hidden), model.body(IMAGES).detach())


def test_a_transformer_of_hugging_face():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=K,
        problem_type="multi_label_classification",
    )
    model = transformers.ViTForImageClassification(config)
    outputs = snojoe.extract(model, list(IMAGES), head="classifier")
    with torch.no_grad():
        expected = model.eval()(pixel_values=IMAGES).logits
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-4, atol=1e-5)
    assert outputs.hidden.shape == (7, 24)


def test_pooled_features_may_be_another_module_than_the_head_reads():
    model = build_classifier("resnet10", K)
    outputs = snojoe.extract(model, [IMAGES], head="head.classifier", features="avgpool")
    with torch.no_grad():
        found = model.eval().outputs(IMAGES)
    for name in ("logits", "features", "hidden"):
        np.testing.assert_allclose(getattr(outputs, name), getattr(found, name), atol=1e-5)


def test_without_a_linear_head_the_other_scores_remain(model):
    outputs = snojoe.extract(model, [IMAGES], head=None, features="avgpool")
    assert outputs.hidden.shape == (7, 0)
    assert outputs.features.shape == (7, 512)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_takes_what_is_extracted(model, name):
    train = snojoe.extract(model, DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4))
    detector = fit_detector(name, train, train, snojoe.linear_head(model))
    assert np.isfinite(detector.score_outputs(train)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "classifier"}, "no module 'classifier' in ResNet; its last linear layers are fc"),
        ({"head": "layer4"}, "head='layer4': expected a linear layer; got Sequential"),
        ({"features": "layer4.0.bn1"}, r"features='layer4\.0\.bn1': expected \(7, D\)"),
        ({"images": []}, "images: expected at least one"),
        ({"images": ["a.jpg"]}, r"images: expected tensors \(3, H, W\) or"),
        ({"images": [torch.zeros(32, 32)]}, r"images: expected tensors.*; got \(32, 32\)"),
    ],
)
def test_what_does_not_fit_is_named(model, arguments, message):
    images = torch.cat([IMAGES, IMAGES])[:7].repeat(1, 1, 4, 4)
    with pytest.raises(ValueError, match=message):
        snojoe.extract(model, **{"images": [images], **arguments})


def test_a_linear_layer_that_is_not_the_last_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, K))
    with pytest.raises(ValueError, match="head='1': expected the last linear layer"):
        snojoe.extract(model, [IMAGES], head="1")
    assert snojoe.extract(model, [IMAGES], head="3").hidden.shape == (7, 8)


def test_an_output_that_is_no_logits_is_refused():
    with pytest.raises(ValueError, match=r"expected logits \(n, K\) from the model; got \(7, 3"):
        snojoe.extract(nn.Identity(), [IMAGES], head=None)
