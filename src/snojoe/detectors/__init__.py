"""Which scores are there? One file each; all are scikit-learn outlier detectors.

A score that is put into this package as a file, a class with `name`, `title`, `consumes` and
`_score`, is in `DETECTORS` and so in every table and plot.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from snojoe.detectors.base import ArrayDetector, Detector, OutputsDetector
from snojoe.detectors.grad_norm import GradNorm
from snojoe.detectors.isolation_forest import IsolationForest
from snojoe.detectors.joint_energy import JointEnergy
from snojoe.detectors.knn import KNN
from snojoe.detectors.lof import LOF
from snojoe.detectors.mahalanobis import Mahalanobis
from snojoe.detectors.mahalanobis_pp import MahalanobisPP
from snojoe.detectors.max_logit import MaxLogit
from snojoe.detectors.msp import MSP
from snojoe.detectors.nn_guide import NNGuide
from snojoe.detectors.odin import ODIN
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.detectors.react import ReAct
from snojoe.detectors.relative_mahalanobis import RelativeMahalanobis
from snojoe.detectors.residual import Residual
from snojoe.detectors.she import SHE
from snojoe.detectors.sum_logit import SumLogit
from snojoe.detectors.sum_prob import SumProb
from snojoe.detectors.top_k_energy import TopKEnergy
from snojoe.detectors.vim import ViM

PAPER_DETECTORS: tuple[type[Detector], ...] = (
    MaxLogit,
    MSP,
    ODIN,
    Mahalanobis,
    LOF,
    IsolationForest,
    JointEnergy,
)
"""The rows of Table 2, in its order; its eighth is JointEnergy on the normalised network."""


def _discover() -> list[type[Detector]]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return [
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, Detector)
        and thing.__module__ == module.__name__
        and "name" in vars(thing)
    ]


def _registry() -> dict[str, type[Detector]]:
    found = _discover()
    registry = {
        detector.name: detector
        for detector in (*PAPER_DETECTORS, *sorted(found, key=lambda detector: detector.title))
    }
    for detector in found:
        if registry[detector.name] is not detector:
            other = registry[detector.name].__name__
            raise TypeError(f"{detector.__name__} and {other} have one name, {detector.name!r}")
    return registry


DETECTORS: dict[str, type[Detector]] = _registry()
"""Name -> class: the paper's scores in its order, then all others by title."""


def fit_detector(
    name: str, train: ModelOutputs, val: ModelOutputs, head: LinearHead, **params: Any
) -> Detector:
    """The detector `name` with `params`, fitted on the split that it asks for.

    Raises
    ------
    ValueError
        For an unknown `name`.
    """
    if name not in DETECTORS:
        raise ValueError(f"name must be one of {', '.join(DETECTORS)}, got {name!r}")
    detector = DETECTORS[name](**params)
    return detector.fit_outputs({"train": train, "val": val}[detector.fitted_on], head)


__all__ = [
    "DETECTORS",
    "KNN",
    "LOF",
    "MSP",
    "ODIN",
    "PAPER_DETECTORS",
    "SHE",
    "ArrayDetector",
    "Detector",
    "GradNorm",
    "IsolationForest",
    "JointEnergy",
    "LinearHead",
    "Mahalanobis",
    "MahalanobisPP",
    "MaxLogit",
    "ModelOutputs",
    "NNGuide",
    "OutputsDetector",
    "ReAct",
    "RelativeMahalanobis",
    "Residual",
    "SumLogit",
    "SumProb",
    "TopKEnergy",
    "ViM",
    "fit_detector",
]
