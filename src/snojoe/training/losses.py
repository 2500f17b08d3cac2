"""What a training minimises: the paper's loss, and what is tried in the place of SN.

Each function takes logits (n, K) float32 and labels (n, K) of 0 and 1, and returns a mean, ().
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import logsigmoid, softplus

Loss = Callable[[Tensor, Tensor], Tensor]

GAMMA_POSITIVE, GAMMA_NEGATIVE, MARGIN = 0.0, 4.0, 0.05
"""Of `asymmetric`, as its authors have them for MS-COCO."""

TEMPERATURE = 0.5
"""Of `logit_norm`: about the best of 0.11, 0.26 and 0.53 by val mAP on one draw of the digits."""

_LEAST_NORM = 1e-7


def asymmetric(
    logits: Tensor,
    labels: Tensor,
    gamma_positive: float = GAMMA_POSITIVE,
    gamma_negative: float = GAMMA_NEGATIVE,
    margin: float = MARGIN,
) -> Tensor:
    """The asymmetric loss (Ridnik et al., ICCV 2021), which looks away from easy negatives.

    With p = sigmoid(f) and q = max(p - margin, 0), a positive costs
    -(1 - p)^gamma_positive log p and a negative -q^gamma_negative log(1 - q). The mean over labels
    where the authors have the sum, so that a rate means what it does with `bce`, which this is with
    both gammas and the margin at 0.
    """
    positive = -logsigmoid(logits) * torch.sigmoid(-logits) ** gamma_positive
    # 1 - q without cancellation: 1 - sigmoid(f) is sigmoid(-f).
    left = (torch.sigmoid(-logits) + margin).clamp(max=1)
    negative = -left.log() * (1 - left) ** gamma_negative
    return torch.where(labels > 0, positive, negative).mean()


def logit_norm(logits: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Logit normalisation (Wei et al., ICML 2022), with sigmoids in the place of the softmax.

    `bce` of f / (temperature |f| / sqrt(K)), where |f| is the Euclidean norm of an image's K
    logits: a training cannot lower its loss by scaling them. The authors have no sqrt(K) and choose
    the temperature for each data set; with it, a label's logit is of one size whatever K is. As
    they do, the network that is evaluated says f itself: the norm that the training had no use for
    is to tell images apart.
    """
    norms = torch.linalg.vector_norm(logits, dim=1, keepdim=True) / logits.shape[1] ** 0.5
    return bce(logits / (temperature * norms + _LEAST_NORM), labels)


def towards_none(logits: Tensor) -> Tensor:
    """What an outlier costs: `bce` towards none of the labels, the joint energy (eq. 10) by K."""
    return softplus(logits).mean()


LOSSES: dict[str, Loss] = {"bce": bce, "asymmetric": asymmetric, "logit_norm": logit_norm}
"""By the name that ``train.loss`` has for it."""
