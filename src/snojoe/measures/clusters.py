"""Which images belong together, and how sure a mean over such images is.

Images of one scene, or with an object in common, are not independent: a set of them says less than
their number promises. Two images are taken to be dependent where they share a group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse

from snojoe.measures.metrics import FloatArray
from snojoe.support.limits import MOST_GROUPS


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which of n images are dependent: A with A_ij = 1 where i = j or both are of one group.

    A is never formed. An image of several groups is in the set of each nonempty combination of
    them, and psi' A phi is the sum over these sets, with alternating signs, of products of sums
    (inclusion and exclusion): linear in the number of images. For the robust variance of means over
    such crossed clusters see Cameron, Gelbach and Miller, "Robust inference with multiway
    clustering", 2011, and Aronow, Samii and Assenova, "Cluster-robust variance estimation for
    dyadic data", 2015.

    Made by `of` and `independent`.

    Attributes
    ----------
    n : int
        Number of images.
    members : (c, n) sparse float64 array
        1 where an image is in a set; only sets of two images or more.
    signs : (c,) float64 array
        1 for a combination of an odd number of groups, else -1.
    own : (n,) float64 array
        What an image counts beside these sets: 1 less the sum of their signs.
    """

    n: int
    members: Any
    signs: FloatArray
    own: FloatArray

    @classmethod
    def of(cls, groups: Sequence[Sequence[str]]) -> Clusters:
        """Clusters of images by the names of their groups, one sequence of names for each image.

        An image without a name stands on its own.

        Raises
        ------
        ValueError
            For no image at all, or one of more than `MOST_GROUPS` groups.
        """
        if not groups:
            raise ValueError("groups must be of at least one image, got none")
        images: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for image, names in enumerate(groups):
            distinct = sorted(set(names))
            if len(distinct) > MOST_GROUPS:
                raise ValueError(
                    f"an image must be of at most {MOST_GROUPS} groups, "
                    f"got {len(distinct)} for image {image}: {', '.join(distinct)}"
                )
            for size in range(1, len(distinct) + 1):
                for combination in combinations(distinct, size):
                    images[combination].append(image)
        shared = {combination: found for combination, found in images.items() if len(found) > 1}
        signs = np.array([(-1.0) ** (len(combination) + 1) for combination in shared])
        sizes = [len(found) for found in shared.values()]
        columns = np.concatenate([np.empty(0, np.intp), *map(np.asarray, shared.values())])
        rows = np.repeat(np.arange(len(shared)), sizes)
        shape = (len(shared), len(groups))
        members = sparse.csr_array((np.ones(columns.size), (rows, columns)), shape=shape)
        return cls(len(groups), members, signs, 1 - members.T @ signs)

    @classmethod
    def independent(cls, n: int) -> Clusters:
        """`n` images, each on its own."""
        return cls(n, sparse.csr_array((0, n)), np.empty(0), np.ones(n))

    @cached_property
    def effective(self) -> float:
        """n^2 / sum of A: how many independent images say as much, where groups decide all.

        n where images are independent; G / (1 + CV^2) for G disjoint groups whose sizes have the
        coefficient of variation CV (Carter, Schnepel and Steigerwald, "Asymptotic behavior of a t
        test robust to cluster heterogeneity", 2017).
        """
        return self.n**2 / float(self._form(np.ones((1, self.n)))[0, 0])

    @property
    def df(self) -> float:
        """Degrees of freedom of a variance over these images; 0 where none can be known."""
        return max(self.effective - 1, 0.0)

    def covariance_of_means(self, psi: FloatArray) -> FloatArray:
        """Covariance matrix of k means over images: psi A psi' / n^2, psi centred.

        It is scaled by effective / (effective - 1), as n / (n - 1) where images are independent.
        Where clusters are crossed it may be indefinite: `estimates` takes a variance to be at least
        that of independent images.

        Parameters
        ----------
        psi : (k, n) float64 array
            What k statistics say of each image.

        Returns
        -------
        (k, k) float64 array
            NaN where all images are one cluster: nothing can then be known.
        """
        if self.effective <= 1 + 1e-9:
            return np.full((len(psi), len(psi)), np.nan)
        centred = psi - psi.mean(axis=1, keepdims=True)
        return self._form(centred) * (self.effective / (self.effective - 1) / self.n**2)

    def design_effects(self, psi: FloatArray) -> FloatArray:
        """Variance of k means over that of independent images: (k, n) -> (k,), NaN for 0 / 0.

        `n` over it is the number of independent images that say as much as these.
        """
        clustered = np.diag(self.covariance_of_means(psi))
        independent = psi.var(axis=1, ddof=1) / self.n if self.n > 1 else np.zeros(len(psi))
        unknown = np.full(len(psi), np.nan)
        return np.divide(clustered, independent, out=unknown, where=independent > 0)

    def _form(self, psi: FloatArray) -> FloatArray:
        sums = self.members @ psi.T
        return (sums.T * self.signs) @ sums + (psi * self.own) @ psi.T
