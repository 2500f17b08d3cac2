"""Follow the leading singular vectors of weights that move: accelerated power iteration.

With A the weight's linear map, a power iteration replaces x by AA'x. Where an optimiser step turns
the leading singular vector, one such iteration lags behind, by more than 10% of sigma with Adam at
2e-3: it leaves the old direction only at the ratio of two close singular values. So the product
AA'x is not taken as the next vector but as a direction to search in:

    basis X = (x, p, r);  next x = the vector of largest |A'x| in span(X)  (Rayleigh-Ritz)

with p the previous move of x and r the residual of AA'x against x. It is LOBPCG (Knyazev 2001,
"Toward the optimal preconditioned eigensolver"), carried on from step to step. A product with three
rows costs little more than one with a single row, since reading the weight is what takes the time.

A weight whose steps are small rests (`follow`). The search never leaves a singular vector that is
exact, so that where the residual is nothing, and now and then, it is begun elsewhere to see whether
there is a larger one (`_look_elsewhere`).
"""

import copy
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snojoe.spectral_norm.movement import REST_WITHIN, move_grams, sampled_rows, spectral_norms_of
from snojoe.spectral_norm.scaling import power_of_two
from snojoe.spectral_norm.singular_triplets import SingularTriplets
from snojoe.support.errors import SnojoeError

Member = tuple[SingularTriplets, Tensor]  # of a trained weight, which are updated, and the weight


class WeightGroup:
    """Trained weights of one shape, norm and bound, iterated together."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.norm, self.bound = members[0][0].norm, members[0][0].bound
        stacks = [self.norm.maps(weight) for _, weight in members]
        # A GPU takes all in one product; for a CPU the copy would cost more than the calls.
        self.stacks = stacks if stacks[0].is_cpu else [torch.cat(stacks)]
        self.basis = torch.cat([triplets.basis for triplets, _ in members])
        out_size, in_size = self.norm.sizes(stacks[0])
        self.is_left = out_size <= in_size  # x is the shorter of u and v

    def gram(self) -> Tensor:
        """Return the Gram matrices of the images A'X, (k, 3, 3)."""
        self.images = self._map(self.basis, adjoint=self.is_left)
        self.unit: Tensor | None = None
        return self.images @ self.images.mT

    def rescaled_gram(self) -> Tensor:
        """Return `gram` of images in another unit, whose squares are float32s; and keep to it."""
        self.unit = power_of_two(self.images)
        self.images /= self.unit
        return self.images @ self.images.mT

    def move(self, coefficients: Tensor) -> Tensor:
        """Take the next x and p from their coefficients (k, 2, 3) in the basis.

        Returns the least share (k,) by which one more iteration would raise sigma: with a residual
        of length e sigma, e^2 / 2.
        """
        coefficients = coefficients.to(self.basis)
        moved = F.normalize(coefficients @ self.basis, dim=2)
        image = coefficients[:, :1] @ self.images
        sigma = image.norm(dim=2)
        image = F.normalize(image, dim=2)
        product = self._map(image, adjoint=not self.is_left)
        if self.unit is not None:
            product /= self.unit
        residual, length = _orthonormal(product, moved)
        length = length / sigma.clamp_min(1e-30)
        if self.unit is not None:
            sigma = sigma * self.unit[:, 0]
        x = moved[:, :1]
        u, v = (x, image) if self.is_left else (image, x)
        basis = torch.cat([moved, residual], dim=1)
        largest = sigma.view(len(self.members), -1).amax(dim=1)
        factor = 1 / self.bound.divisor(largest)
        factor_unit = torch.ones_like(factor)
        if self.unit is not None:
            factor_unit = power_of_two(factor[:, None, None]).flatten()
        new = {
            "u": u[:, 0].chunk(len(self.members)),
            "v": v[:, 0].chunk(len(self.members)),
            "sigmas": sigma[:, 0].chunk(len(self.members)),
            "basis": basis.chunk(len(self.members)),
            "factor": factor.unbind(),
            "factor_slope": (-(factor / factor_unit).square() * self.bound.slope(largest)).unbind(),
            "factor_unit": factor_unit.unbind(),
        }
        for name, values in new.items():
            torch._foreach_copy_([getattr(triplets, name) for triplets, _ in self.members], values)
        return length[:, 0].square() / 2

    def _map(self, rows: Tensor, *, adjoint: bool) -> Tensor:
        product = self.norm.adjoint if adjoint else self.norm.forward
        parts = torch.split(rows, len(self.stacks[0]))
        return torch.cat([product(w, part) for w, part in zip(self.stacks, parts, strict=True)])


def converge(members: Iterable[Member]) -> None:
    """Find u, v and sigma of weights that are new, to about 1e-6 of sigma."""
    _iterate(members, tolerance=1e-6, max_iterations=200)


@torch.no_grad()
def follow(members: Iterable[Member]) -> None:
    """Bring u, v and sigma up to date with weights that moved by one optimiser step.

    One iteration is enough at the usual fine-tuning rates. With Adam at 4e-3 from scratch it takes
    seven on average, and sigma is within 1e-2 at every step: where another singular value
    overtakes, the residual is small for long, and a tolerance of 3e-5 let sigma lag by 2%.

    A weight rests, and keeps its sigma, while it has moved by no more than 1e-2 sigma since its
    last iteration, for at most 32 steps, and only after 128 small steps in a row (see `movement`).

    Raises
    ------
    SnojoeError
        If a weight that is iterated is not finite.
    """
    members = list(members)
    for triplets, _ in members:
        triplets.rest.steps += 1
        triplets.rest.rested += 1
    due = []
    for group, moves in _moves(members):
        rests = [triplets.rest for triplets, _ in group]
        ended = [not rest.allows(moved) for rest, moved in zip(rests, moves, strict=True)]
        # Those of its kind that soon would be due cost little more.
        joined = any(end and rest.may_rest for end, rest in zip(ended, rests, strict=True))
        due += [
            (member, moved)
            for member, moved, end in zip(group, moves, ended, strict=True)
            if end or (joined and moved > REST_WITHIN / 2)
        ]
    _bring_up_to_date(due)


@torch.no_grad()
def refresh(members: Iterable[Member]) -> None:
    """Bring the weights that rest up to date; the others are."""
    resting = [member for member in members if member[0].rest.rested]
    _bring_up_to_date(
        [pair for group, moves in _moves(resting) for pair in zip(group, moves, strict=True)]
    )


def _moves(members: Iterable[Member]) -> list[tuple[list[Member], list[float]]]:
    """Return the members by kind, and how far each has moved since its last iteration."""
    groups = _by_kind(members)
    if not groups:
        return []
    grams = [
        move_grams(
            [weight for _, weight in group],
            [triplets.anchor for triplets, _ in group],
            torch.stack([triplets.sigmas for triplets, _ in group]).amax(dim=1),
            group[0][0].norm.stretch(group[0][1]),
        )
        for group in groups
    ]
    moves = iter(spectral_norms_of(torch.cat(grams).cpu().double()))
    return [(group, list(islice(moves, len(group)))) for group in groups]


def _bring_up_to_date(due: Sequence[tuple[Member, float]]) -> None:
    """Iterate weights that have moved so far, and note it."""
    members = [member for member, _ in due]
    stuck = _iterate(members, tolerance=3e-6, max_iterations=20)
    looking = [member for member in members if member[0].rest.looks_elsewhere]
    _look_elsewhere(looking or stuck)
    for (triplets, _), moved in due:
        triplets.rest.end(moved)
    if due:
        anchors = [triplets.anchor for triplets, _ in members]
        torch._foreach_copy_(anchors, [sampled_rows(weight) for _, weight in members])


def _look_elsewhere(members: Sequence[Member]) -> None:
    """Search once more from random vectors, and go there where sigma turns out to be larger.

    The vectors are those of the step and the shape: the same in every process, and after resuming.
    """
    others = []
    for triplets, weight in members:
        other = copy.deepcopy(triplets)
        random = torch.Generator().manual_seed(triplets.rest.steps)
        first = torch.randn(len(other.basis), other.basis.shape[2], generator=random)
        other.basis.zero_()
        other.basis[:, 0] = F.normalize(first, dim=1)
        others.append((other, weight))
    _iterate(others, tolerance=1e-3, max_iterations=8)
    found = []
    for (triplets, weight), (other, _) in zip(members, others, strict=True):
        larger = other.sigmas > triplets.sigmas * (1 + 1e-4)
        if larger.any():
            triplets.basis[larger] = other.basis[larger]
            found.append((triplets, weight))
    _iterate(found, tolerance=3e-6, max_iterations=20)


@torch.no_grad()
def _iterate(members: Iterable[Member], tolerance: float, max_iterations: int) -> list[Member]:
    """Iterate all, then again those whose sigma grows by more than `tolerance` of itself.

    Returns those whose vectors are exact singular vectors, if perhaps not the leading ones.
    """
    exact = []
    for _ in range(max_iterations):
        groups = [WeightGroup(group) for group in _by_kind(members)]
        if not groups:
            break
        # Autocast would round the products to bfloat16.
        with torch.autocast(groups[0].basis.device.type, enabled=False):
            # One small problem for all, on the host: a GPU is waited for twice per iteration.
            grams = torch.cat([group.gram() for group in groups]).cpu().double()
            if not ((grams[:, 0, 0] > 1e-30) & (grams.amax(dim=(1, 2)) < 1e30)).all():
                grams = torch.cat([group.rescaled_gram() for group in groups]).cpu().double()
            if not grams.isfinite().all():
                raise SnojoeError(
                    "a spectrally normalised weight is not finite: the training has diverged "
                    "(the learning rate may be too high)"
                )
            coefficients, gains = _rayleigh_ritz(grams)
            sizes = [len(group.basis) for group in groups]
            parts = torch.split(coefficients, sizes)
            ahead = [group.move(part) for group, part in zip(groups, parts, strict=True)]
        residuals = torch.cat(ahead).cpu().double()
        gains = torch.maximum(gains, residuals)
        order = [member for group in groups for member in group.members]
        counts = [len(triplets.basis) for triplets, _ in order]
        shares = zip(torch.split(gains, counts), torch.split(residuals, counts), strict=True)
        members = []
        for member, (gain, residual) in zip(order, shares, strict=True):
            if gain.max() > tolerance:
                members.append(member)
            elif residual.min() == 0 and member[0].basis.shape[2] > 1:
                exact.append(member)
    return exact


def _by_kind(members: Iterable[Member]) -> list[list[Member]]:
    """Return the members in groups of one shape, norm and bound."""
    by_key: dict[Hashable, list[Member]] = defaultdict(list)
    for triplets, weight in members:
        key = (triplets.norm, triplets.bound, weight.shape, weight.dtype, weight.device)
        by_key[key].append((triplets, weight))
    return list(by_key.values())


def _rayleigh_ritz(grams: Tensor) -> tuple[Tensor, Tensor]:
    """Return coefficients (k, 2, 3) of the next x and p, and its gains of sigma (k,)."""
    # Of a zero matrix the first eigenvector is e_0: x stays where the weight is zero.
    values, vectors = torch.linalg.eigh(-grams)
    x = vectors[..., 0]
    x = torch.where(x[:, :1] < 0, -x, x)
    # p spans with the next x the plane of both: e_0 - x_0 x, written without cancellation.
    p = torch.stack(
        [x[:, 1].square() + x[:, 2].square(), -x[:, 0] * x[:, 1], -x[:, 0] * x[:, 2]], dim=1
    )
    growth = -values[:, 0] / grams[:, 0, 0].clamp_min(1e-300)
    # NumPy's root, the same on every processor: see `measure`.
    gains = torch.from_numpy(np.sqrt(growth.clamp_min(0).numpy())) - 1
    return torch.stack([x, F.normalize(p, dim=1)], dim=1), gains


def _orthonormal(vector: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of `vector` orthogonal to `rows`, normalised, and its length.

    The direction is 0 where nothing but rounding errors is left.
    """
    vector = vector - vector @ rows.mT @ rows
    length = vector.norm(dim=2)
    vector = F.normalize(vector, dim=2)
    vector = vector - vector @ rows.mT @ rows  # again, for what the first left of a long vector
    kept = vector.norm(dim=2, keepdim=True)
    return torch.where(kept > 0.5, vector / kept, 0.0), length
