"""A fitted detector as one file: safetensors, its numbers and parameters as JSON beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.base import BaseEstimator

from snojoe.detectors._gaussian import TiedGaussians
from snojoe.detectors.base import Detector, fitted_offset
from snojoe.detectors.outputs import LinearHead
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file
from snojoe.support.text import first_line

FORMAT = 2
"""In 1 some scores read the other array, and KNN knew no k of its own."""

_HEADER = "snojoe.detector"
# Attributes that are objects of ours: class -> the arrays that they consist of.
_PARTS: dict[type, tuple[str, ...]] = {
    TiedGaussians: ("centre", "whitener", "means"),
    LinearHead: ("weight", "bias"),
}
_BY_NAME = {kind.__name__: kind for kind in _PARTS}


def save_detector(detector: Detector, path: Path | str) -> None:
    """Write a fitted detector with its threshold; reading it runs no code from the file.

    Raises
    ------
    ValueError
        If it is not fitted, not one of ``snojoe.detectors.DETECTORS``, seeded by chance, or has
        learnt what cannot be stored: neither arrays and numbers nor made anew by ``_rebuild``.
    """
    from snojoe.detectors import DETECTORS

    if DETECTORS.get(detector.name) is not type(detector):
        raise ValueError(f"expected one of {', '.join(DETECTORS)}; got {type(detector).__name__}")
    params = detector.get_params()
    if params.get("random_state", 0) is None:
        raise ValueError("random_state=None: expected a seed, or the same trees cannot grow again")
    estimators = [n for n, value in vars(detector).items() if isinstance(value, BaseEstimator)]
    if estimators and type(detector)._rebuild is Detector._rebuild:
        raise ValueError(
            f"{detector.name}.{estimators[0]}: a scikit-learn estimator is not stored; expected "
            "_rebuild to make it anew from arrays"
        )
    tensors, values, kinds = learnt_parts(detector)
    header = {
        "format": FORMAT,
        "name": detector.name,
        "params": params,
        "values": values,
        "kinds": kinds,
        "offset": detector.offset_,
    }
    try:
        description = json.dumps(header)
    except TypeError as error:
        raise ValueError(
            f"{detector.name}: expected arrays and numbers to store ({error})"
        ) from None
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    content = save(arrays, metadata={_HEADER: description})
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(content)


def learnt_parts(
    detector: Detector,
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, str]]:
    """What a fitted detector has learnt, flat.

    Returns
    -------
    arrays : dict of str to array
        By the attribute's name; of an object of ours as ``<attribute>.<array>``.
    values : dict of str to object
        Numbers, and whatever else it is.
    kinds : dict of str to str
        The classes of those objects.
    """
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for name, value in detector.learnt().items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        elif type(value) in _PARTS:
            kinds[name] = type(value).__name__
            arrays |= {f"{name}.{part}": getattr(value, part) for part in _PARTS[type(value)]}
        else:
            values[name] = value.item() if isinstance(value, np.generic) else value
    return arrays, values, kinds


def load_detector(path: Path | str) -> Detector:
    """Read what `save_detector` wrote.

    Raises
    ------
    SnojoeError
        If the file is missing, damaged, or of another version.
    """
    from snojoe.detectors import DETECTORS

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] != FORMAT:
            raise SnojoeError(f"{path}: this version has no detector format {header['format']!r}")
        detector = DETECTORS[header["name"]](**header["params"])
        learnt = {name: array for name, array in arrays.items() if "." not in name}
        for name, kind in header["kinds"].items():
            made: Any = object.__new__(_BY_NAME[kind])
            for part in _PARTS[_BY_NAME[kind]]:
                object.__setattr__(made, part, arrays[f"{name}.{part}"])
            learnt[name] = made
        detector.restore({**learnt, **header["values"]}, fitted_offset(header["offset"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SnojoeError(f"{path}: not a saved detector ({first_line(error)})") from None
    return detector
