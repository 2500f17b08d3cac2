"""Published figures, to stand beside ours where the data are theirs.

The paper: Mei et al., Multi-Label Out-of-Distribution Detection with Spectral Normalized Joint
Energy. Its journal version is not here: its tables could not be read, and an abstract is no table.
FPR95, AUROC and AUPR in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from snojoe.data.class_names import COCO, NUS_WIDE, VOC
from snojoe.data.prepared import PreparedSets


class PaperFigures(NamedTuple):
    """Of one row, in percent; whosever they are."""

    fpr95: float
    auroc: float
    aupr: float


class IDSet(NamedTuple):
    """An in-distribution set of a publication: its classes, and the images of its test split."""

    classes: tuple[str, ...]
    test_images: int


PASCAL_VOC = IDSet(VOC, 10_991)
MS_COCO = IDSet(COCO, 40_775)
NUS = IDSet(NUS_WIDE, 41_949)
OOD_IMAGES = {"imagenet22k": 18_835, "texture": 5_640}

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


# Wang et al. 2021, Can multi-label classification networks know what they don't know? No SN is in
# it; the classes of ImageNet-22K are the paper's for the first two sets.
JOINT_ENERGYS_TABLE = {
    PASCAL_VOC: {
        "max_logit": PaperFigures(45.06, 89.22, 83.14),
        "msp": PaperFigures(74.05, 79.32, 72.54),
        "odin": PaperFigures(45.06, 89.22, 83.16),
        "mahalanobis": PaperFigures(41.74, 88.65, 81.12),
        "lof": PaperFigures(86.34, 69.21, 58.93),
        "isolation_forest": PaperFigures(93.22, 50.67, 35.78),
        "joint_energy": PaperFigures(41.01, 91.10, 86.33),
    },
    MS_COCO: {
        "max_logit": PaperFigures(43.53, 89.11, 93.74),
        "msp": PaperFigures(79.90, 73.70, 85.37),
        "odin": PaperFigures(43.53, 89.11, 93.74),
        "mahalanobis": PaperFigures(46.86, 88.59, 93.85),
        "lof": PaperFigures(80.44, 73.95, 86.01),
        "isolation_forest": PaperFigures(94.39, 49.04, 66.87),
        "joint_energy": PaperFigures(33.48, 92.70, 96.25),
    },
    NUS: {
        "max_logit": PaperFigures(56.46, 83.58, 94.32),
        "msp": PaperFigures(88.50, 60.81, 87.00),
        "odin": PaperFigures(56.46, 83.58, 94.32),
        "mahalanobis": PaperFigures(62.67, 84.02, 95.25),
        "lof": PaperFigures(85.21, 67.75, 89.61),
        "isolation_forest": PaperFigures(95.69, 53.12, 83.32),
        "joint_energy": PaperFigures(48.98, 88.30, 96.40),
    },
}

# JointEnergy's OOD set for NUS-WIDE is of 20 other classes. How many images they have is not known,
# so that the name in params/nuswide.yaml, under which a user brings them, has to say it.
NUS_OOD = "imagenet22k_nus"

PAPERS, JOINT_ENERGYS = "paper's", "JointEnergy's"
"""Whose figures stand beside ours."""

OF_JOINT_ENERGYS = (
    "JointEnergy's figures are those of Wang et al. 2021 on these data, on DenseNet-121 by its "
    "code's default."
)


Published = Mapping[str, Mapping[Any, PaperFigures]]
"""OOD set, whatever the user calls it -> row -> the published figures."""


class Effect(NamedTuple):
    """What SN did to FPR95 on one OOD set: a difference in points, a relative cut in percent."""

    points: float
    cut: float


def published(table: Published, sets: PreparedSets, classes: list[str]) -> Published:
    """The figures of `TABLE_2` or `TABLE_3` for the user's OOD sets that are the paper's.

    They are where the classes are PASCAL-VOC's and the test split and the OOD set have as many
    images as in the paper's Table 1.
    """
    if not _is(PASCAL_VOC, sets, classes):
        return {}
    by_size = {images: name for name, images in OOD_IMAGES.items()}
    return {
        name: table[by_size[prepared.images]]
        for name, prepared in sets.ood.items()
        if prepared.images in by_size
    }


def beside_table2(sets: PreparedSets, classes: list[str]) -> dict[str, Published]:
    """Published figures for Table 2, by whose they are: the paper's, and JointEnergy's.

    JointEnergy's are for its ImageNet-22K classes: known by their number of images, for NUS-WIDE
    by the name that `NUS_OOD` has.
    """
    joint_energys = {
        name: rows
        for id_set, rows in JOINT_ENERGYS_TABLE.items()
        if _is(id_set, sets, classes)
        for name, prepared in sets.ood.items()
        if _is_joint_energys(id_set, name, prepared.images)
    }
    return {PAPERS: published(TABLE_2, sets, classes), JOINT_ENERGYS: joint_energys}


def _is_joint_energys(id_set: IDSet, name: str, images: int) -> bool:
    papers_classes = images == OOD_IMAGES["imagenet22k"]
    return name == NUS_OOD and not papers_classes if id_set is NUS else papers_classes


def _is(id_set: IDSet, sets: PreparedSets, classes: list[str]) -> bool:
    return id_set == (tuple(classes), sets.id["test"].images)


def paper_cut(figures: Mapping[Any, PaperFigures]) -> float:
    """The paper's relative cut of FPR95 by SN, in percent, from the rows of its own Table 2."""
    return 100 * (1 - figures["snojoe"].fpr95 / figures["joint_energy"].fpr95)


EFFECTS = [
    Effect(rows["snojoe"].fpr95 - rows["joint_energy"].fpr95, paper_cut(rows))
    for rows in TABLE_2.values()
]
