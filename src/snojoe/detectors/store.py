"""A folder of one model's detectors: all that deciding by another score than joint energy takes.

========================  =========================================================================
``<score>.safetensors``   each detector, fitted and calibrated: `snojoe.detectors.save_detector`
``measured.safetensors``  what each says of the images that it was measured on, and whose it is
``SHA256SUMS``            checksums of all the others
========================  =========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from snojoe.measures.metrics import FloatArray
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file, check_sums, write_sums
from snojoe.support.text import first_line

if TYPE_CHECKING:
    from snojoe.detectors import Detector

FORMAT = 1
ID = "id"
"""The set of in-distribution test images, beside the OOD sets."""

_MEASURED = "measured.safetensors"
_HEADER = "snojoe.measured"
_SUFFIX = ".safetensors"

Measured = Mapping[str, Mapping[str, FloatArray]]
"""Score -> `ID` and each OOD set -> (n,) float64, the scores of its images."""


def keep_detector(folder: Path, detector: Detector) -> None:
    """Write a detector into the folder, which `write_store` then completes."""
    from snojoe.detectors.saved import save_detector

    save_detector(detector, folder / f"{detector.name}{_SUFFIX}")


def write_store(
    folder: Path,
    measured: Measured,
    *,
    model: str,
    val: str,
    pseudo_fpr95: Mapping[str, float] | None = None,
    noise: Mapping[str, float] | None = None,
) -> None:
    """Write what else belongs into a folder of detectors.

    Parameters
    ----------
    folder : Path
    measured : mapping
        Of `ID` those images alone for which the threshold promises anything.
    model : str
        `snojoe.model.folder.weights_digest` of the model.
    val : str
        ``sha256`` of the images that all are calibrated on, as in `ValImages`.
    pseudo_fpr95 : mapping of str to float, optional
        Score -> its mean FPR95 on pseudo-OOD images, by which one can be chosen.
    noise : mapping of str to float, optional
        Score -> eps of the input noise that its images get: `snojoe.inference.perturbation`.
    """
    arrays = {
        f"{score}/{name}": np.ascontiguousarray(values, np.float64)
        for score, sets in measured.items()
        for name, values in sets.items()
    }
    header = {
        "format": FORMAT,
        "model": model,
        "val": val,
        "pseudo_fpr95": dict(pseudo_fpr95 or {}),
        "noise": dict(noise or {}),
    }
    with atomic_file(folder / _MEASURED) as temporary:
        temporary.write_bytes(save(arrays, metadata={_HEADER: json.dumps(header)}))
    write_sums(folder)


@dataclass(frozen=True)
class Store:
    """What `write_store` wrote, and the detectors beside it."""

    folder: Path
    model: str
    val: str
    measured: Measured
    pseudo_fpr95: Mapping[str, float]
    noise: Mapping[str, float]

    def detector(self, score: str) -> Detector:
        """The detector of this name.

        Raises
        ------
        SnojoeError
            If there is none, or its file is damaged.
        """
        from snojoe.detectors.saved import load_detector

        if score not in (there := list(self.scores())):
            raise SnojoeError(
                f"{self.folder}: has no detector {score}; there are {', '.join(there) or 'none'}"
            )
        check_sums(self.folder, only=[f"{score}{_SUFFIX}"])
        return load_detector(self.folder / f"{score}{_SUFFIX}")

    def calibration(self, score: str) -> FloatArray:
        """The scores that a detector is calibrated on, (n,), without reading the rest of it.

        Raises
        ------
        SnojoeError
            If there is no such detector, or its file is damaged.
        """
        path = self.folder / f"{score}{_SUFFIX}"
        check_sums(self.folder, only=[path.name])
        try:
            with safe_open(path, framework="numpy") as file:
                return np.asarray(file.get_tensor("calibration_"), np.float64)
        except (OSError, SafetensorError) as error:
            raise SnojoeError(f"{path}: not calibrated ({first_line(error)})") from None

    def scores(self) -> Iterator[str]:
        """The names of the detectors that are there."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if path.name != _MEASURED:
                yield path.name.removesuffix(_SUFFIX)


def read_store(folder: Path) -> Store:
    """Open a folder of detectors.

    Raises
    ------
    SnojoeError
        If it is none, damaged, or of another version.
    """
    check_sums(folder, only=[_MEASURED])
    measured: dict[str, dict[str, FloatArray]] = {}
    try:
        with safe_open(folder / _MEASURED, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            for key in sorted(file.keys()):
                score, _, name = key.partition("/")
                measured.setdefault(score, {})[name] = file.get_tensor(key)
        if header["format"] != FORMAT:
            raise SnojoeError(f"{folder}: this version has no store format {header['format']!r}")
        known = {name: header[name] for name in ("model", "val", "pseudo_fpr95")}
        noise = header.get("noise", {})  # which earlier stores have not
        return Store(folder, measured=measured, noise=noise, **known)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SnojoeError(f"{folder / _MEASURED}: not readable ({first_line(error)})") from None
