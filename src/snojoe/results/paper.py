"""The paper's own figures, to stand beside ours where the data are the paper's.

Mei et al., Multi-Label Out-of-Distribution Detection with Spectral Normalized Joint Energy.
FPR95, AUROC and AUPR in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from snojoe.data.prepared import PreparedSets


class PaperFigures(NamedTuple):
    """Of one row, in percent."""

    fpr95: float
    auroc: float
    aupr: float


ID_TEST_IMAGES = 10_991
OOD_IMAGES = {"imagenet22k": 18_835, "texture": 5_640}
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

TABLE_2 = {
    "imagenet22k": {
        "max_logit": PaperFigures(36.32, 91.04, 82.68),
        "msp": PaperFigures(69.85, 78.24, 67.93),
        "odin": PaperFigures(36.32, 91.04, 82.68),
        "mahalanobis": PaperFigures(78.02, 70.93, 59.84),
        "lof": PaperFigures(76.71, 67.54, 55.35),
        "isolation_forest": PaperFigures(98.64, 41.94, 33.50),
        "joint_energy": PaperFigures(31.96, 92.32, 86.87),
        "snojoe": PaperFigures(28.49, 93.48, 88.11),
    },
    "texture": {
        "max_logit": PaperFigures(12.36, 96.22, 96.97),
        "msp": PaperFigures(41.81, 89.76, 93.00),
        "odin": PaperFigures(12.36, 96.22, 96.97),
        "mahalanobis": PaperFigures(19.17, 96.23, 97.90),
        "lof": PaperFigures(89.49, 60.37, 76.70),
        "isolation_forest": PaperFigures(99.59, 20.89, 50.11),
        "joint_energy": PaperFigures(10.87, 96.78, 97.87),
        "snojoe": PaperFigures(5.02, 98.48, 99.00),
    },
}

TABLE_3 = {
    "imagenet22k": {
        0: PaperFigures(31.37, 93.37, 89.29),
        7: PaperFigures(48.19, 89.59, 84.19),
        8: PaperFigures(30.85, 92.98, 87.24),
        9: PaperFigures(28.49, 93.48, 88.11),
    },
    "texture": {
        0: PaperFigures(6.21, 97.87, 98.58),
        7: PaperFigures(6.72, 98.20, 98.94),
        8: PaperFigures(4.91, 98.49, 98.94),
        9: PaperFigures(5.02, 98.48, 99.00),
    },
}


Published = Mapping[str, Mapping[Any, PaperFigures]]
"""OOD set, whatever the user calls it -> row -> the paper's figures."""


class Effect(NamedTuple):
    """What SN did to FPR95 on one OOD set: a difference in points, a relative cut in percent."""

    points: float
    cut: float


def published(table: Published, sets: PreparedSets, classes: list[str]) -> Published:
    """The figures of `TABLE_2` or `TABLE_3` for the user's OOD sets that are the paper's.

    They are where the classes are PASCAL-VOC's and the test split and the OOD set have as many
    images as in the paper's Table 1.
    """
    if tuple(classes) != CLASSES or sets.id["test"].images != ID_TEST_IMAGES:
        return {}
    by_size = {images: name for name, images in OOD_IMAGES.items()}
    return {
        name: table[by_size[prepared.images]]
        for name, prepared in sets.ood.items()
        if prepared.images in by_size
    }


def paper_cut(figures: Mapping[Any, PaperFigures]) -> float:
    """The paper's relative cut of FPR95 by SN, in percent, from the rows of its own Table 2."""
    return 100 * (1 - figures["snojoe"].fpr95 / figures["joint_energy"].fpr95)


EFFECTS = [
    Effect(rows["snojoe"].fpr95 - rows["joint_energy"].fpr95, paper_cut(rows))
    for rows in TABLE_2.values()
]
