"""The scores' registry: `snojoe.detectors` shows what is here, once it is asked for."""

from dataclasses import fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from snojoe.detectors.base import ArrayDetector, Detector, OutputsDetector
from snojoe.detectors.isolation_forest import IsolationForest
from snojoe.detectors.joint_energy import JointEnergy
from snojoe.detectors.lof import LOF
from snojoe.detectors.mahalanobis import Mahalanobis
from snojoe.detectors.max_logit import MaxLogit
from snojoe.detectors.msp import MSP
from snojoe.detectors.odin import ODIN
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.detectors.saved import load_detector, save_detector

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


def _registry() -> dict[str, type[Detector]]:
    package = import_module(__name__.rpartition(".")[0])
    names = [f"{package.__name__}.{module.name}" for module in iter_modules(package.__path__)]
    modules = [import_module(name) for name in names]
    found = [
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, Detector)
        and thing.__module__ == module.__name__
        and "name" in vars(thing)
    ]
    known = {field.name for field in fields(ModelOutputs)}
    registry = {detector.name: detector for detector in PAPER_DETECTORS}
    for detector in sorted(found, key=lambda detector: detector.title):
        other = registry.setdefault(detector.name, detector)
        if other is not detector:
            both = f"{other.__name__} and {detector.__name__}"
            raise TypeError(f"{both} have one name, {detector.name!r}")
        if not known.issuperset(detector.consumes):  # a string is one of letters
            raise TypeError(
                f"{detector.__name__}.consumes: expected a tuple of {', '.join(sorted(known))}; "
                f"got {detector.consumes!r}"
            )
    return registry


DETECTORS: dict[str, type[Detector]] = _registry()
"""Name -> class: the paper's scores in its order, then all others by title."""


def fit_detector(
    name: str, train: ModelOutputs, val: ModelOutputs, head: LinearHead, **params: Any
) -> Detector:
    """The detector `name` with `params`, fitted on the split that it asks for.

    `val` has images that it may learn from: none on which it will be calibrated.

    Raises
    ------
    ValueError
        For an unknown `name`.
    """
    detector = _made(name, params)
    _fit([detector], train, val, head)
    return detector


def fit_variants(
    name: str, train: ModelOutputs, val: ModelOutputs, head: LinearHead, **params: Any
) -> list[Detector]:
    """`fit_detector`, and beside it the detectors with each other value of its `grid`.

    Raises
    ------
    ValueError
        As `fit_detector`.
    """
    variants = _made(name, params).variants()
    _fit(variants, train, val, head)
    return variants


def _made(name: str, params: dict[str, Any]) -> Detector:
    if name not in DETECTORS:
        raise ValueError(f"name must be one of {', '.join(DETECTORS)}, got {name!r}")
    return DETECTORS[name](**params)


def _fit(
    variants: list[Detector], train: ModelOutputs, val: ModelOutputs, head: LinearHead
) -> None:
    of = type(variants[0])
    seen = {"train": train, "val": val}[of.fitted_on]
    of.fit_variants(variants, seen, head, val if of.matched_on else None)


__all__ = [
    "DETECTORS",
    "LOF",
    "MSP",
    "ODIN",
    "PAPER_DETECTORS",
    "ArrayDetector",
    "Detector",
    "IsolationForest",
    "JointEnergy",
    "LinearHead",
    "Mahalanobis",
    "MaxLogit",
    "ModelOutputs",
    "OutputsDetector",
    "fit_detector",
    "fit_variants",
    "load_detector",
    "save_detector",
]
