"""Follow the leading singular vectors of weights that move: accelerated power iteration.

With A the weight's linear map, a power iteration replaces x by AA'x. Where an optimiser step turns
the leading singular vector, one such iteration lags behind, by more than 10% of sigma with Adam at
2e-3: it leaves the old direction only at the ratio of two close singular values. So the product
AA'x is not taken as the next vector but as a direction to search in:

    basis X = (x, p, r);  next x = the vector of largest |A'x| in span(X)  (Rayleigh-Ritz)

with p the previous move of x and r the residual of AA'x against x. It is LOBPCG (Knyazev 2001,
"Toward the optimal preconditioned eigensolver"), carried on from step to step. A product with three
rows costs little more than one with a single row, since reading the weight is what takes the time.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
        residual, length = _orthonormal(self._map(image, adjoint=not self.is_left), moved)
        x = moved[:, :1]
        u, v = (x, image) if self.is_left else (image, x)
        basis = torch.cat([moved, residual], dim=1)
        largest = sigma.view(len(self.members), -1).amax(dim=1)
        factor = 1 / self.bound.divisor(largest)
        new = {
            "u": u[:, 0].chunk(len(self.members)),
            "v": v[:, 0].chunk(len(self.members)),
            "sigmas": sigma[:, 0].chunk(len(self.members)),
            "basis": basis.chunk(len(self.members)),
            "factor": factor.unbind(),
            "factor_slope": (-factor.square() * self.bound.slope(largest)).unbind(),
        }
        for name, values in new.items():
            torch._foreach_copy_([getattr(triplets, name) for triplets, _ in self.members], values)
        return (length / sigma.clamp_min(1e-30))[:, 0].square() / 2

    def _map(self, rows: Tensor, *, adjoint: bool) -> Tensor:
        product = self.norm.adjoint if adjoint else self.norm.forward
        parts = torch.split(rows, len(self.stacks[0]))
        return torch.cat([product(w, part) for w, part in zip(self.stacks, parts, strict=True)])


def converge(members: Iterable[Member]) -> None:
    """Find u, v and sigma of weights that are new, to about 1e-6 of sigma."""
    _iterate(members, tolerance=1e-6, max_iterations=200)


def follow(members: Iterable[Member]) -> None:
    """Bring u, v and sigma up to date with weights that moved by one optimiser step.

    One iteration is enough at the usual fine-tuning rates. With Adam at 4e-3 from scratch it takes
    seven on average, and sigma is within 1e-2 at every step: where another singular value
    overtakes, the residual is small for long, and a tolerance of 3e-5 let sigma lag by 2%.

    Raises
    ------
    SnojoeError
        If a weight is not finite.
    """
    _iterate(members, tolerance=3e-6, max_iterations=20)


@torch.no_grad()
def _iterate(members: Iterable[Member], tolerance: float, max_iterations: int) -> None:
    """Iterate all, then again those whose sigma grows by more than `tolerance` of itself."""
    for _ in range(max_iterations):
        groups = _groups(members)
        if not groups:
            return
        # Autocast would round the products to bfloat16.
        with torch.autocast(groups[0].basis.device.type, enabled=False):
            # One small problem for all, on the host: a GPU is waited for twice per iteration.
            grams = torch.cat([group.gram() for group in groups]).cpu().double()
            if not grams.isfinite().all():
                raise SnojoeError(
                    "a spectrally normalised weight is not finite: the training has diverged "
                    "(the learning rate may be too high)"
                )
            coefficients, gains = _rayleigh_ritz(grams)
            sizes = [len(group.basis) for group in groups]
            parts = torch.split(coefficients, sizes)
            ahead = [group.move(part) for group, part in zip(groups, parts, strict=True)]
        gains = torch.maximum(gains, torch.cat(ahead).cpu().double())
        members = [
            member
            for group, part in zip(groups, torch.split(gains, sizes), strict=True)
            for member, gain in zip(group.members, part.chunk(len(group.members)), strict=True)
            if gain.max() > tolerance
        ]


def _groups(members: Iterable[Member]) -> list[WeightGroup]:
    by_key: dict[Hashable, list[Member]] = defaultdict(list)
    for triplets, weight in members:
        key = (triplets.norm, triplets.bound, weight.shape, weight.dtype, weight.device)
        by_key[key].append((triplets, weight))
    return [WeightGroup(group) for group in by_key.values()]


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
