"""What a classifier says of images that are stored."""

from __future__ import annotations

import numpy as np
import torch

from snojoe.data.shards import Shards
from snojoe.model.classifier import Classifier
from snojoe.model.pixels import normalise


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
        logits.append(model(normalise(pixels)).float().cpu().numpy())
        labels.append(batch.labels)
    known = [each for each in labels if each is not None]
    return np.concatenate(logits), np.concatenate(known) if known else None
