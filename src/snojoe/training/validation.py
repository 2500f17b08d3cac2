"""What a classifier says of images that are stored, and how good that is."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from snojoe.data.shards import Shards
from snojoe.measures.metrics import mean_average_precision
from snojoe.model.classifier import Classifier
from snojoe.support.errors import SnojoeError


@torch.inference_mode()
def predict_logits(
    model: Classifier, shards: Shards, batch_size: int = 128
) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits (n, K) float32 and labels (n, K) uint8 of all images; the model is left in eval."""
    model.eval()
    device = next(model.parameters()).device
    logits, labels = [], []
    for batch in shards.batches(batch_size):
        pixels = torch.from_numpy(batch.pixels).to(device)
        logits.append(model(model.normalise(pixels)).float().cpu().numpy())
        labels.append(batch.labels)
    known = [each for each in labels if each is not None]
    return np.concatenate(logits), np.concatenate(known) if known else None


def predict_labelled(model: Classifier, shards: Shards) -> tuple[np.ndarray, np.ndarray]:
    """`predict_logits` of images that must have labels.

    Raises
    ------
    SnojoeError
        If they have none.
    """
    logits, labels = predict_logits(model, shards)
    if labels is None:
        raise SnojoeError(f"{shards.folder}: expected labelled images")
    return logits, labels


def validate(model: Classifier, val: Shards) -> dict[str, float]:
    """``val_loss``, the mean binary cross-entropy, and ``val_map``, a fraction.

    Raises
    ------
    SnojoeError
        If the loss is not finite or the images have no labels.
    """
    logits, labels = predict_labelled(model, val)
    loss = bce(torch.from_numpy(logits), torch.from_numpy(labels).float())
    if not torch.isfinite(loss):
        raise SnojoeError(f"the loss on val is {float(loss)}; train.lr may be too high")
    return {"val_loss": float(loss), "val_map": mean_average_precision(labels, logits)}
