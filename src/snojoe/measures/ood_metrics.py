"""The metrics of an OOD detector: what each is called, which way is better, how it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from snojoe.measures.metrics import aupr, auroc, check_scores, fpr_at_tpr


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name : str
        Its key in files and frames.
    title : str
        For people.
    better : "higher" or "lower"
    of : callable
        (n,) ID scores and (m,) OOD scores, higher = more in-distribution -> a fraction. It raises
        ValueError for empty, non-finite or not one-dimensional scores.
    """

    name: str
    title: str
    better: Literal["higher", "lower"]
    of: Callable[[ArrayLike, ArrayLike], float]

    @property
    def heading(self) -> str:
        """The title, and an arrow that points to the better."""
        return f"{self.title} {'↑' if self.better == 'higher' else '↓'}"


def aupr_out(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Average precision of OOD against ID; chance is the share of OOD images.

    Arguments and errors as in `snojoe.measures.metrics.fpr_at_tpr`.
    """
    id_scores = check_scores("id_scores", id_scores)
    return aupr(-check_scores("ood_scores", ood_scores), -id_scores)


FPR95 = Metric("fpr95", "FPR95", "lower", fpr_at_tpr)
AUROC = Metric("auroc", "AUROC", "higher", auroc)
AUPR = Metric("aupr", "AUPR", "higher", aupr)
AUPR_OUT = Metric("aupr_out", "AUPR-out", "higher", aupr_out)

OOD_METRICS = (FPR95, AUROC, AUPR)
"""The paper's, in the order of every table."""

ALL_METRICS = (*OOD_METRICS, AUPR_OUT)
"""Where every score stands: the precision-recall curve's other side as well."""
