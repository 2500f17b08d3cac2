"""Which images are worth a look, and each in a form that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from snojoe.data.shards import Shards
from snojoe.detectors.outputs import ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy
from snojoe.results.grids import Experiment

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
    experiment: Experiment, prepared: Path, classes: Sequence[str], sn_layers: int
) -> list[PictureSet]:
    """What the SN model of the first seed gets wrong and right, for each OOD set and for ID test.

    Parameters
    ----------
    experiment : Experiment
    prepared : Path
        Folder of the shards.
    classes : sequence of str
        Names of the labels.
    sn_layers : int
        Depth of the model.
    """
    seed = experiment.seeds[0]
    tau = experiment.config(sn_layers, seed).threshold.tau
    count = max(2, min(6, MOST_PICTURES // (3 * len(experiment.ood_sets) + 2)))

    def gallery(title: str, note: str, rows: NDArray[np.intp]) -> Gallery:
        return Gallery(title, note, _pictures(shards, outputs, energy, rows, tau, classes))

    sets = []
    for name in experiment.ood_sets:
        shards, outputs = Shards(prepared / "ood" / name), experiment.ood(sn_layers, seed, name)
        energy = joint_energy(np.asarray(outputs.logits, np.float64))
        ranked = np.argsort(-energy, kind="stable")
        nearest = np.argsort(np.abs(energy - tau), kind="stable")[:count]
        wrong = f"{np.mean(energy >= tau):.1%} of {energy.size:,} images are accepted"
        sets.append(
            PictureSet(
                name,
                [
                    gallery("Most confidently wrong", f"highest energy; {wrong}", ranked[:count]),
                    gallery("Borderline", "energy nearest to the threshold", nearest),
                    gallery("Clearest", "lowest energy", ranked[::-1][:count]),
                ],
            )
        )
    shards, outputs = Shards(prepared / "test"), experiment.id(sn_layers, seed, "test")
    energy = joint_energy(np.asarray(outputs.logits, np.float64))
    rejected = np.flatnonzero(energy < tau)
    note = f"{rejected.size:,} of {energy.size:,} images lie below the threshold"
    lowest = rejected[np.argsort(energy[rejected], kind="stable")][: 2 * count]
    return [
        *sets,
        PictureSet(
            "In-distribution test images", [gallery("Rejected, lowest first", note, lowest)]
        ),
    ]


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


def _pictures(
    shards: Shards,
    outputs: ModelOutputs,
    energy: FloatArray,
    rows: NDArray[np.intp],
    tau: float,
    classes: Sequence[str],
) -> list[Picture]:
    """In the order of `rows`."""
    if not rows.size:
        return []
    ascending = np.unique(rows)
    pixels = dict(zip(ascending, shards.pixels(ascending), strict=True))
    names = shards.table(["id"])["id"]
    pictures = []
    for row in rows:
        probabilities = expit(np.asarray(outputs.logits[row], np.float64))
        strongest = np.argsort(-probabilities, kind="stable")[:LABELS]
        truth = () if outputs.labels is None else np.flatnonzero(outputs.labels[row])
        pictures.append(
            Picture(
                src=thumbnail(pixels[row]),
                name=names[int(row)].as_py(),
                energy=float(energy[row]),
                accepted=bool(energy[row] >= tau),
                labels=[(classes[int(i)], float(probabilities[i])) for i in strongest],
                annotated=[classes[int(i)] for i in truth],
            )
        )
    return pictures
