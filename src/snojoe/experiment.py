"""Where each file of a run lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """The folders of a run, one for each kind of output; below `root`."""

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

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def plots(self) -> Path:
        return self.root / "plots"
