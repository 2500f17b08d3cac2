"""Follow the leading singular vectors of weights that move: accelerated power iteration.

With A the weight's linear map, a power iteration replaces x by AA'x. Where an optimiser step turns
the leading singular vector, one such iteration lags behind: by up to 12% of sigma in the default
training, since it leaves the old direction only at the ratio of two close singular values. So the
product AA'x is not taken as the next vector but as a direction to search in:

    basis X = (x, p, r);  next x = the vector of largest |A'x| in span(X)  (Rayleigh-Ritz)

with p the previous move of x and r the residual of AA'x against x. It is LOBPCG (Knyazev 2001,
"Toward the optimal preconditioned eigensolver"), carried on from step to step. A product with three
rows costs little more than one with a single row, since reading the weight is what takes the time.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from snojoe.spectral_norm.parametrization import NormalizedWeight


class Batch:
    """Normalised weights of one shape and one norm, iterated together.

    Parameters
    ----------
    members
        Parametrisation, which is updated, and raw weight, of each.
    """

    def __init__(self, members: Sequence[tuple[NormalizedWeight, Tensor]]) -> None:
        self.states = [state for state, _ in members]
        weights = [weight for _, weight in members]
        # A GPU takes all in one product; for a CPU the copy would cost more than the calls.
        self.stacks = [w[None] for w in weights] if weights[0].is_cpu else [torch.stack(weights)]
        self.basis = torch.stack([state.basis for state in self.states])
        self.norm = self.states[0].norm
        out_size, in_size = self.norm.sizes(weights[0])
        self.is_left = out_size <= in_size  # x is the shorter of u and v

    def gram(self) -> Tensor:
        """Return the Gram matrices of the images A'X, (k, 3, 3)."""
        self.images = self._map(self.basis, adjoint=self.is_left)
        return self.images @ self.images.mT

    def move(self, coefficients: Tensor) -> None:
        """Take the next x and p from their coefficients (k, 2, 3) in the basis."""
        coefficients = coefficients.to(self.basis)
        moved = F.normalize(coefficients @ self.basis, dim=2)
        image = coefficients[:, :1] @ self.images
        sigma = image.norm(dim=2)
        image = F.normalize(image, dim=2)
        residual = _orthonormal(self._map(image, adjoint=not self.is_left), moved)
        self.basis = torch.cat([moved, residual], dim=1)
        x = moved[:, :1]
        u, v = (x, image) if self.is_left else (image, x)
        new = {"u": u[:, 0], "v": v[:, 0], "sigma": sigma[:, 0], "basis": self.basis}
        for name, values in new.items():
            torch._foreach_copy_([getattr(state, name) for state in self.states], list(values))

    def _map(self, rows: Tensor, *, adjoint: bool) -> Tensor:
        product = self.norm.adjoint if adjoint else self.norm.forward
        parts = torch.split(rows, len(self.stacks[0]))
        return torch.cat([product(w, part) for w, part in zip(self.stacks, parts, strict=True)])


def batches(members: Iterable[tuple[NormalizedWeight, Tensor]]) -> list[Batch]:
    """Batch the weights of equal shape, norm and device."""
    groups: dict[Hashable, list[tuple[NormalizedWeight, Tensor]]] = defaultdict(list)
    for state, weight in members:
        groups[state.norm, weight.shape, weight.dtype, weight.device].append((state, weight))
    return [Batch(group) for group in groups.values()]


def iterate(pending: Sequence[Batch], tolerance: float, max_iterations: int) -> None:
    """Run one iteration, and again on each batch whose sigma still grew by `tolerance`.

    Raises
    ------
    FloatingPointError
        If a weight is not finite: the training has diverged.
    """
    for _ in range(max_iterations):
        if not pending:
            return
        # One small problem for all weights, on the host: a GPU is waited for once per iteration.
        grams = torch.cat([batch.gram() for batch in pending]).cpu().double()
        if not grams.isfinite().all():
            raise FloatingPointError("a normalised weight is not finite: the training has diverged")
        coefficients, gains = _rayleigh_ritz(grams)
        sizes = [len(batch.states) for batch in pending]
        for batch, rows in zip(pending, torch.split(coefficients, sizes), strict=True):
            batch.move(rows)
        still = [bool(gain.max() > tolerance) for gain in torch.split(gains, sizes)]
        pending = [batch for batch, more in zip(pending, still, strict=True) if more]


def _rayleigh_ritz(grams: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients (k, 2, 3) of the next x and p, and the gains of sigma (k,)."""
    # Of a zero matrix the first eigenvector is e_0: x stays where the weight is zero.
    values, vectors = torch.linalg.eigh(-grams)
    x = vectors[..., 0]
    x = torch.where(x[:, :1] < 0, -x, x)
    # p spans with the next x the plane of both: e_0 - x_0 x, written without cancellation.
    p = torch.stack(
        [x[:, 1].square() + x[:, 2].square(), -x[:, 0] * x[:, 1], -x[:, 0] * x[:, 2]], dim=1
    )
    growth = -values[:, 0] / grams[:, 0, 0].clamp_min(1e-300)
    return torch.stack([x, F.normalize(p, dim=1)], dim=1), growth.clamp_min(0).sqrt() - 1


def _orthonormal(vector: Tensor, rows: Tensor) -> Tensor:
    """Return the part of `vector` orthogonal to `rows`, normalised, or 0 where none is left."""
    vector = F.normalize(vector - vector @ rows.mT @ rows, dim=2)
    # Once more: what remains of a small remainder may be the rounding error of the first.
    vector = vector - vector @ rows.mT @ rows
    length = vector.norm(dim=2, keepdim=True)
    return torch.where(length > 0.5, vector / length, 0.0)
