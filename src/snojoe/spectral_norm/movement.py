"""Whether a weight may rest: how far it has moved since its last iteration.

Weyl: no singular value of W moves by more than the spectral norm of what is added to it,

    |sigma_i(W + D) - sigma_i(W)| <= |D|_2,

so neither sigma nor one that might overtake it. D is what the optimiser did, whichever it is. Of D
we see S, every (out / 16)th row, for which those rows of the last weight are kept:

    |D|_2^2 ~ out / rows * |S|_2^2,    |S|_2^2 <= tr((S S')^8)^(1/8) <= 16^(1/8) |S|_2^2.

The first is an estimate for steps that move all rows alike, as optimisers' do; where D is noise, it
is too large. A matrix of 16 rows or fewer is seen whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# By sigma: how far a weight may have moved while it rests.
REST_WITHIN = 1e-2
# Steps in a row, each of less than half of that, before a weight rests for the first time. A rate
# that only passes by, as at the end of a cycle, is over sooner.
CALM_STEPS = 128
LONGEST_REST = 32
LOOK_ELSEWHERE_EVERY = 256

_ROWS = 16


@dataclass
class Rest:
    """What is remembered of a weight's steps.

    Attributes
    ----------
    steps
        Optimiser steps seen.
    calm
        How many of them in a row, up to the last iteration, were small.
    rested
        How many have passed since the last iteration.
    """

    steps: int = 0
    calm: int = 0
    rested: int = 0

    @property
    def looks_elsewhere(self) -> bool:
        """Whether it is time to see if there is a larger singular value."""
        return self.steps % LOOK_ELSEWHERE_EVERY == 0

    @property
    def may_rest(self) -> bool:
        """Whether the steps have been small for long enough."""
        return self.calm >= CALM_STEPS

    def allows(self, moved: float) -> bool:
        """Whether a weight that has moved so far since its last iteration may go without one."""
        rested_enough = self.rested > LONGEST_REST or self.looks_elsewhere
        return not rested_enough and self.may_rest and moved <= REST_WITHIN

    def end(self, moved: float) -> None:
        """Note an iteration."""
        small = moved <= self.rested * REST_WITHIN / 2
        self.calm = self.calm + self.rested if small else 0
        self.rested = 0


def sampled_rows(weight: Tensor) -> Tensor:
    """Return at most 16 rows of a weight (out, ...), evenly spaced, as a view."""
    return weight.detach()[:: max(1, len(weight) // _ROWS)][:_ROWS]


def move_grams(
    weights: Sequence[Tensor], anchors: Sequence[Tensor], sigmas: Tensor, stretch: float
) -> Tensor:
    """Return what `spectral_norms_of` needs to say how far weights have moved, by their sigma.

    Parameters
    ----------
    weights, anchors
        n weights (out, ...) of one shape, and the `sampled_rows` of what they were.
    sigmas
        Their spectral norms (n,).
    stretch
        The norm's, see `Norm.stretch`.

    Returns
    -------
    Tensor
        Gram matrices S S' (n, 16, 16), padded with zeros, of rows scaled to stand for all.
    """
    moved = torch._foreach_sub([sampled_rows(weight) for weight in weights], list(anchors))
    rows = torch.stack(moved).flatten(2)
    share = rows.shape[1] / len(weights[0])
    rows *= (stretch * share**-0.5 / sigmas).view(-1, 1, 1)
    missing = _ROWS - rows.shape[1]
    return F.pad(rows @ rows.mT, (0, missing, 0, missing))


def spectral_norms_of(grams: Tensor) -> list[float]:
    """Return upper bounds of |S|_2, at most 1.1 times as large, from Gram matrices S S' (n, k, k).

    float64 on the CPU. NaN where a matrix is not finite.
    """
    trace = grams.diagonal(dim1=1, dim2=2).sum(dim=1)
    power = grams / trace.clamp_min(1e-300).view(-1, 1, 1)
    for _ in range(2):
        power = power @ power
    eighth = power.square().sum(dim=(1, 2)).numpy()
    # NumPy's roots, the same on every processor: see `measure`.
    norms: list[float] = np.sqrt(trace.numpy() * np.sqrt(np.sqrt(np.sqrt(eighth)))).tolist()
    return norms
