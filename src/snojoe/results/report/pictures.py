"""Which images are worth a look, and each in a form that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from snojoe.data.shards import Shards
from snojoe.detectors.outputs import ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy
from snojoe.results.stored import Experiment

MOST_PICTURES = 110  # on a page, so that it stays small however many OOD sets there are
EDGE = 160
PIXELATED = 64  # up to here an image is shown pixel by pixel, as the network sees it
LABELS = 3


class Picture(NamedTuple):
    """One image and what the model says of it.

    Attributes
    ----------
    src : str
        A ``data:`` URI.
    name : str
        Its id in the data.
    energy : float
    accepted : bool
        Whether the energy reaches the threshold.
    labels : list of (str, float)
        The strongest labels and their probabilities.
    annotated : list of str
        Its true labels, where it has any.
    """

    src: str
    name: str
    energy: float
    accepted: bool
    labels: list[tuple[str, float]]
    annotated: list[str]


class Gallery(NamedTuple):
    """Pictures under a heading; `note` says what they have in common."""

    title: str
    note: str
    pictures: list[Picture]


class PictureSet(NamedTuple):
    """The galleries of one set of images."""

    name: str
    galleries: list[Gallery]


def picture_sets(
    experiment: Experiment, classes: Sequence[str], sn_layers: int
) -> list[PictureSet]:
    """What the SN model of the first seed gets wrong and right, for each OOD set and for ID test.

    Parameters
    ----------
    experiment : Experiment
    classes : sequence of str
        Names of the labels.
    sn_layers : int
        Depth of the model.
    """
    seed = experiment.seeds[0]
    tau = experiment.threshold(sn_layers, seed)
    count = max(2, min(6, MOST_PICTURES // (3 * len(experiment.ood_sets) + 2)))

    def images(name: str) -> _Images:
        outputs = experiment.outputs(sn_layers, seed, name)
        energy = joint_energy(np.asarray(outputs.logits, np.float64))
        return _Images(experiment.shards(name), outputs, energy, tau, classes)

    sets = [PictureSet(name, _ood_galleries(images(name), count)) for name in experiment.ood_sets]
    rejected = _rejected(images("test"), 2 * count)
    return [*sets, PictureSet("In-distribution test images", [rejected])]


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """(H, W, 3) image -> a ``data:`` URI: small images as they are, others scaled down, JPEG."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if max(image.size) <= PIXELATED:
        image.save(buffer, "PNG", optimize=True)
        return data_uri(buffer.getvalue(), "image/png")
    image.thumbnail((EDGE, EDGE))
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, mime_type: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{mime_type};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True)
class _Images:
    """A set of n images, their outputs and energies (n,), and what makes pictures of them."""

    shards: Shards
    outputs: ModelOutputs
    energy: FloatArray
    tau: float
    classes: Sequence[str]

    def pictures(self, rows: NDArray[np.intp]) -> list[Picture]:
        """In the order of `rows`."""
        if not rows.size:
            return []
        ascending = np.unique(rows)
        pixels = dict(zip(ascending, self.shards.pixels(ascending), strict=True))
        names = self.shards.table(["id"])["id"]
        return [self._picture(row, names[int(row)].as_py(), pixels[row]) for row in rows]

    def _picture(self, row: np.intp, name: str, pixels: NDArray[np.uint8]) -> Picture:
        probabilities = expit(np.asarray(self.outputs.logits[row], np.float64))
        strongest = np.argsort(-probabilities, kind="stable")[:LABELS]
        labels = self.outputs.labels
        truth = () if labels is None else np.flatnonzero(labels[row])
        return Picture(
            src=thumbnail(pixels),
            name=name,
            energy=float(self.energy[row]),
            accepted=bool(self.energy[row] >= self.tau),
            labels=[(self.classes[int(i)], float(probabilities[i])) for i in strongest],
            annotated=[self.classes[int(i)] for i in truth],
        )


def _ood_galleries(images: _Images, count: int) -> list[Gallery]:
    """`count` OOD images of each kind."""
    energy, tau = images.energy, images.tau
    ranked = np.argsort(-energy, kind="stable")
    nearest = np.argsort(np.abs(energy - tau), kind="stable")
    wrong = f"{np.mean(energy >= tau):.1%} of {energy.size:,} images are accepted"
    kinds = [
        ("Most confidently wrong", f"highest energy; {wrong}", ranked),
        ("Borderline", "energy nearest to the threshold", nearest),
        ("Clearest", "lowest energy", ranked[::-1]),
    ]
    return [Gallery(title, note, images.pictures(rows[:count])) for title, note, rows in kinds]


def _rejected(images: _Images, count: int) -> Gallery:
    """At most `count` ID images that are not accepted."""
    energy = images.energy
    rejected = np.flatnonzero(energy < images.tau)
    note = f"{rejected.size:,} of {energy.size:,} images lie below the threshold"
    lowest = rejected[np.argsort(energy[rejected], kind="stable")][:count]
    return Gallery("Rejected, lowest first", note, images.pictures(lowest))
