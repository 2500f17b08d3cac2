"""The input noise of ODIN and Mahalanobis: x' = x - eps * sign(gradient) / std.

Liang et al., "Enhancing the reliability of out-of-distribution image detection in neural networks",
ICLR 2018, and Lee et al., "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks", NeurIPS 2018, in the multi-label form of Wang et al. 2021. The gradient is
that of a loss with respect to the normalised image; std is that of the normalisation, so that eps
is a share of a pixel's range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from snojoe.model.classifier import Classifier, Outputs

if TYPE_CHECKING:
    from snojoe.detectors._gaussian import TiedGaussians
    from snojoe.detectors.mahalanobis import Mahalanobis

Loss = Callable[[Outputs], Tensor]
"""From what the network says of n images to (n,) losses."""


class Noise(NamedTuple):
    """Noise for one score, which reads `field` of the outputs for x'."""

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
    return partial(_nearest, detector.gaussians_)


def noise_of(score: str, eps: float, mahalanobis: Any) -> Noise:
    """The noise of "odin" or "mahalanobis"; `mahalanobis` is that fitted detector."""
    if score == "odin":
        return Noise("logits", odin_loss, eps)
    return Noise("features", mahalanobis_loss(mahalanobis), eps)


def _nearest(gaussians: TiedGaussians, outputs: Outputs) -> Tensor:
    centre, whitener, means = (
        torch.as_tensor(array).to(outputs.features)
        for array in (gaussians.centre, gaussians.whitener, gaussians.means)
    )
    white = (outputs.features - centre) @ whitener
    return 0.5 * (white[:, None] - means).square().sum(dim=2).amin(dim=1)


def steps_against(
    model: Classifier, images: Tensor, losses: Sequence[Loss]
) -> tuple[Outputs, list[Tensor]]:
    """Outputs for the images and, for each loss, the step sign(gradient) / std, (n, 3, H, W).

    One forward pass serves all losses. The model must be in eval mode: in train mode BatchNorm
    would mix the images.

    Parameters
    ----------
    images : (n, 3, H, W) floating tensor
        Normalised images.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        outputs = model.outputs(images)
        totals = [loss(outputs).sum() for loss in losses]
    std = images.new_tensor(model.std)[:, None, None]
    gradients = [
        torch.autograd.grad(total, images, retain_graph=i < len(totals))[0]
        for i, total in enumerate(totals, 1)
    ]
    steps = [gradient.sign() / std for gradient in gradients]
    return Outputs(*(each.detach() for each in outputs)), steps


@torch.inference_mode()
def noisy_outputs(model: Classifier, images: Tensor, step: Tensor, eps: float) -> Outputs:
    """Outputs for x' = x - eps * step."""
    return model.outputs(images - eps * step)


def outputs_with_noise(
    model: Classifier, images: Tensor, noises: Mapping[str, Noise]
) -> tuple[Outputs, dict[str, Outputs]]:
    """Outputs for the images, and by score those for the images with that score's noise."""
    if not noises:
        with torch.inference_mode():
            return model.outputs(images), {}
    outputs, steps = steps_against(model, images, [noise.loss for noise in noises.values()])
    return outputs, {
        score: noisy_outputs(model, images, step, noise.eps)
        for (score, noise), step in zip(noises.items(), steps, strict=True)
    }
