"""A new threshold for a model, from images that are like those which it will see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snojoe.data.images import ImageError
from snojoe.data.stable import number
from snojoe.detect.image_detector import ImageDetector
from snojoe.measures.conformal import least_images
from snojoe.measures.metrics import FloatArray
from snojoe.measures.thresholds import calibrated_threshold
from snojoe.model.decision import ACCEPT
from snojoe.model.folder import Threshold, ValImages, names_digest, write_calibration
from snojoe.support.errors import SnojoeError


@dataclass(frozen=True)
class Energies:
    """Names and joint energies of images, and what could not be read, with the reason."""

    names: list[str]
    values: FloatArray
    unreadable: list[str]

    def held_out(self, share: float) -> tuple[Energies, Energies]:
        """Those to calibrate on, and a share that is not, by name: adding images moves none."""
        apart = np.array(
            [number(f"hold out {Path(name).name}") < share for name in self.names], dtype=bool
        )
        kept, out = (
            [name for name, each in zip(self.names, part, strict=True) if each]
            for part in (~apart, apart)
        )
        rest = Energies(kept, self.values[~apart], self.unreadable)
        return rest, Energies(out, self.values[apart], [])


def energies_of(detector: ImageDetector, files: Iterable[str]) -> Energies:
    """The joint energy of each image."""
    names, values, unreadable = [], [], []
    for name, result in detector.stream(files):
        if isinstance(result, ImageError):
            unreadable.append(f"{name}: {result}")
        else:
            names.append(str(name))
            values.append(result.energy)
    return Energies(names, np.array(values, dtype=np.float64), unreadable)


def calibrate(folder: Path, energies: Energies, source: str) -> float:
    """Let a model's tau follow from these images, which are all in-distribution.

    Parameters
    ----------
    folder : Path
        Of the model; its weights are not touched.
    energies : Energies
        By this model.
    source : str
        What the images are, for ``config.json`` and for people.

    Returns
    -------
    float
        tau for the usual acceptance.

    Raises
    ------
    SnojoeError
        If there are too few images to promise it.
    """
    least = least_images(ACCEPT)
    if len(energies.values) < least:
        raise SnojoeError(
            f"{source}: expected at least {least} images to promise that {100 * ACCEPT:g}% of new "
            f"ones are accepted; got {len(energies.values)}"
        )
    tau = calibrated_threshold(energies.values, ACCEPT)
    digest = names_digest(energies.names)
    val = ValImages(images=len(energies.names), sha256=digest, source=source)
    write_calibration(folder, Threshold(accept=ACCEPT, tau=tau), val, energies.values)
    return tau
