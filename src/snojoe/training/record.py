"""What is measured while training, and the line that is said of an epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snojoe.model.classifier import Classifier
from snojoe.spectral_norm import spectral_norms


@dataclass
class Record:
    """What was measured while training.

    Attributes
    ----------
    history : list of dict
        One per epoch: ``epoch`` (from 1), ``train_loss``, ``val_loss``, ``val_map`` (fraction).
    sigmas : list of dict
        One per epoch (0 is before the first) and weight: ``epoch``, ``weight``, ``layer``,
        ``normalized``, ``sigma`` (of the weight that the network computes with) and ``raw_sigma``
        (of the weight that is trained); both of the reshaped kernel, exact.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    sigmas: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Number of epochs that are done."""
        return len(self.history)

    @property
    def normalized_weights(self) -> int:
        """Number of weights that are spectrally normalised."""
        return sum(row["normalized"] for row in self.sigmas if row["epoch"] == 0)

    def add_sigmas(self, model: Classifier) -> None:
        """Measure every weight as it is after the last epoch in ``history``."""
        self.sigmas += [
            {
                "epoch": self.epochs,
                "weight": each.name,
                "layer": each.layer,
                "normalized": each.normalized,
                "sigma": each.sigma,
                "raw_sigma": each.raw_sigma,
            }
            for each in spectral_norms(model)
        ]


def epoch_line(row: dict[str, float], epochs: int, seconds_left: float) -> str:
    """A row of ``history`` for people, with the time that is left after all but the last."""
    left = f", {_duration(seconds_left)} left" if row["epoch"] < epochs else ""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}: loss {row['train_loss']:.4f}, "
        f"val loss {row['val_loss']:.4f}, val mAP {row['val_map']:.2%}{left}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
