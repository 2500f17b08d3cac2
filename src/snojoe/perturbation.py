"""The input noise of ODIN and Mahalanobis: x' = x - eps * sign(gradient) / std.

Liang et al., "Enhancing the reliability of out-of-distribution image detection in neural networks",
ICLR 2018, and Lee et al., "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks", NeurIPS 2018, in the multi-label form of Wang et al. 2021. The gradient is
that of a loss with respect to the normalised image; std is that of the normalisation, so that eps
is a share of a pixel's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from snojoe.data.images import STD
from snojoe.data.shards import Shards
from snojoe.detectors import Mahalanobis
from snojoe.inference import OutputFiles, images_on_device
from snojoe.models import Classifier, Outputs

Loss = Callable[[Outputs], Tensor]
"""From what the network says of n images to (n,) losses."""


class Noise(NamedTuple):
    """Noise for one score, which reads `field` of the outputs for x' (`noisy_outputs`)."""

    field: str
    loss: Loss
    eps: float


def odin_loss(outputs: Outputs) -> Tensor:
    """BCE of the most probable label against its own thresholded prediction: (n,).

    The target is 1 where p >= 0.5, else 0, so the loss is ln(1 + exp(-|f|)) for the largest logit
    f. A temperature changes its gradient's length alone, never the sign.
    """
    largest = outputs.logits.amax(dim=1)
    return -logsigmoid(torch.where(largest >= 0, largest, -largest))


def mahalanobis_loss(detector: Mahalanobis) -> Loss:
    """Minus the score of a fitted `Mahalanobis`: min_k 1/2 (z - mu_k)^T P (z - mu_k), (n,)."""
    gaussians = detector.gaussians_

    def loss(outputs: Outputs) -> Tensor:
        centre, whitener, means = (
            torch.as_tensor(array).to(outputs.features)
            for array in (gaussians.centre, gaussians.whitener, gaussians.means)
        )
        white = (outputs.features - centre) @ whitener
        return 0.5 * (white[:, None] - means).square().sum(dim=2).amin(dim=1)

    return loss


def noisy_outputs(
    model: Classifier, images: Tensor, loss: Loss, eps: Sequence[float]
) -> Iterator[Outputs]:
    """Outputs for x' = x - eps * sign(gradient of the loss) / std, for each eps.

    One gradient serves all; then it is one pass per eps. The model must be in eval mode: in train
    mode BatchNorm would mix the images.

    Parameters
    ----------
    images : (n, 3, H, W) floating tensor
        Normalised images.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(model.outputs(images)).sum(), images)
    step = gradient.sign() / gradient.new_tensor(STD)[:, None, None]
    for each in eps:
        with torch.inference_mode():
            outputs = model.outputs(images - each * step)
        yield outputs


def write_noisy_outputs(
    models: Sequence[Classifier],
    noises: Sequence[Mapping[str, Noise]],
    shards: Shards,
    targets: Sequence[Path],
    *,
    batch_size: int,
) -> None:
    """Write what each model says of every image with noise, as far as a score reads it.

    Each target folder receives ``<score>_<field>.npy`` for each of its model's noises, which are
    by score; float32, rows as in ``write_outputs``. Where no model has any, no image is read.
    """
    if not any(noises):
        return
    files = [OutputFiles(target, len(shards)) for target in targets]
    start = 0
    for images, batch in images_on_device(models, shards, batch_size):
        for model, by_score, arrays in zip(models, noises, files, strict=True):
            for score, noise in by_score.items():
                (outputs,) = noisy_outputs(model, images, noise.loss, [noise.eps])
                values = getattr(outputs, noise.field)
                arrays.write(f"{score}_{noise.field}", values, start=start)
        start += len(batch.ids)
