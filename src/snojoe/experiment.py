"""Where each file of a run lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val", "test")
"""The in-distribution (ID) sets. No OOD set may have such a name: `snojoe.params` sees to it."""


@dataclass(frozen=True)
class Folders:
    """The folders of a run; below `root`."""

    root: Path

    @property
    def raw(self) -> Path:
        """Archives that were made or downloaded."""
        return self.root / "data/raw"

    @property
    def weights(self) -> Path:
        """The trunk's initial weights."""
        return self.root / "data/weights"

    @property
    def prepared(self) -> Path:
        """Shards of images, ``classes.json`` and ``report.json``."""
        return self.root / "data/prepared"

    def shards(self, name: str) -> Path:
        """The images of a split or of an OOD set."""
        return self.prepared / name if name in SPLITS else self.prepared / "ood" / name

    @property
    def outliers(self) -> Path:
        """Images that show none of the classes, to train with: a part of what train is."""
        return self.shards("train") / "outliers"

    @property
    def models(self) -> Path:
        return self.root / "models"

    def model(self, sn_layers: int, seed: int) -> Path:
        """One model, with ``config.json``, ``history.csv`` and ``sigma.csv``."""
        return seed_folder(depth_folder(self.models, sn_layers), seed)

    def id_outputs(self, sn_layers: int) -> Path:
        """What the models of a depth say of the splits, and what tuning chose, seed by seed."""
        return self.root / "outputs" / f"sn{sn_layers}" / "id"

    def ood_outputs(self, sn_layers: int) -> Path:
        """What the models of a depth say of the OOD sets, seed by seed."""
        return self.root / "outputs" / f"sn{sn_layers}" / "ood"

    def outputs(self, sn_layers: int, seed: int, name: str) -> Path:
        """What one model says of a split or of an OOD set."""
        depth = self.id_outputs if name in SPLITS else self.ood_outputs
        return seed_folder(depth(sn_layers), seed) / name

    def tuned(self, sn_layers: int, seed: int) -> Path:
        """Folder of what was tuned for one model: its outputs for the splits, all together."""
        return seed_folder(self.id_outputs(sn_layers), seed)

    def pseudo_outputs(self, sn_layers: int, seed: int) -> Path:
        """What one model says of val images and of the pseudo-OOD sets made of them, by name."""
        return self.tuned(sn_layers, seed) / "pseudo"

    @property
    def detectors(self) -> Path:
        """Fitted and calibrated detectors of the models that the tables compare."""
        return self.root / "detectors"

    def detectors_of(self, sn_layers: int, seed: int) -> Path:
        """The detectors of one model; see `snojoe.detectors.store`."""
        return seed_folder(depth_folder(self.detectors, sn_layers), seed)

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def plots(self) -> Path:
        return self.root / "plots"

    @property
    def page(self) -> Path:
        """The page that shows everything."""
        return self.root / "report.html"


def depth_folder(folder: Path, sn_layers: int) -> Path:
    """The part of one depth of spectral normalisation, also of a folder being written."""
    return folder / f"sn{sn_layers}"


def seed_folder(folder: Path, seed: int) -> Path:
    """The part of one seed, also of a folder that is still being written."""
    return folder / f"seed{seed}"
