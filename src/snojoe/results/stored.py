"""What the earlier stages stored, read through whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from snojoe.data.shards import Shards
from snojoe.data.stable import calibration_part
from snojoe.detectors.outputs import LinearHead, ModelOutputs, load_head, load_outputs
from snojoe.experiment import Folders
from snojoe.inference.tuned import Tuning, read_tuning
from snojoe.measures.clusters import Clusters
from snojoe.model.folder import (
    check_model,
    names_digest,
    read_config,
    read_history,
    read_sigmas,
)
from snojoe.params import Params
from snojoe.support.errors import SnojoeError


@dataclass(frozen=True)
class Experiment:
    """The models of an experiment and their outputs.

    Parameters
    ----------
    folders : Folders
    ood_sets : sequence of str
        Names of the OOD sets.
    seeds : sequence of int
    """

    folders: Folders
    ood_sets: Sequence[str]
    seeds: Sequence[int]

    @classmethod
    def of(cls, params: Params, folders: Folders) -> Self:
        return cls(folders, list(params.data.ood), params.seeds)

    @property
    def test_sets(self) -> dict[str, str]:
        """What the sets are called in tables -> in folders; "id" is the test split."""
        return {"id": "test", **{name: name for name in self.ood_sets}}

    def shards(self, name: str) -> Shards:
        """Images of a split or of an OOD set."""
        return Shards(self.folders.shards(name), whole=False)

    def clusters(self) -> dict[str, Clusters]:
        """Which images of "id" and of each OOD set belong together.

        Raises
        ------
        SnojoeError
            If an image has too many groups.
        """
        return {name: self._clusters(name, folder) for name, folder in self.test_sets.items()}

    def _clusters(self, name: str, folder: str) -> Clusters:
        try:
            return Clusters.of(self.shards(folder).groups())
        except ValueError as error:
            raise SnojoeError(f"{name}: {error}") from None

    def outputs(
        self, sn_layers: int, seed: int, name: str, score: str | None = None
    ) -> ModelOutputs:
        """Outputs for a split or an OOD set, or what `score` is to read of them."""
        return load_outputs(self.folders.outputs(sn_layers, seed, name), score)

    def pseudo_outputs(self, sn_layers: int, seed: int, name: str) -> ModelOutputs:
        """Outputs for a pseudo-OOD set, or the images "id" that all of them are made of."""
        return load_outputs(self.folders.pseudo_outputs(sn_layers, seed) / name)

    def to_choose(self, sn_layers: int, seed: int) -> ModelOutputs:
        """Outputs for the val images on which a detector may learn: those of no calibration."""
        return self.outputs(sn_layers, seed, "val").rows(~self._calibrating[0])

    def to_calibrate(self, sn_layers: int, seed: int, score: str) -> ModelOutputs:
        """What `score` is to read of the val images for calibration: those with a label."""
        return self.outputs(sn_layers, seed, "val", score).rows(self._shown)

    def calibrated_on(self) -> str:
        """Checksum of the names of these images, as `ValImages` has it.

        Raises
        ------
        SnojoeError
            If there is none.
        """
        if not self._shown.any():
            raise SnojoeError("val: expected images with a label among those for calibration")
        return names_digest(np.array(self._calibrating[1])[self._shown].tolist())

    @cached_property
    def _calibrating(self) -> tuple[NDArray[np.bool_], list[str]]:
        """Which val images are for calibration, and the names of all."""
        val = self.shards("val")
        ids = val.table(["id"])["id"].to_pylist()
        return calibration_part(ids, val.groups()), ids

    @cached_property
    def _shown(self) -> NDArray[np.bool_]:
        """Of those for calibration the ones that show a class, as in `fit_decision`."""
        labels = self.shards("val").labels()
        if labels is None:
            raise SnojoeError("val: expected labelled images")
        return self._calibrating[0] & labels.any(axis=1)

    @cached_property
    def test_calibrates(self) -> NDArray[np.bool_]:
        """Which test images detectors are calibrated on, (n,): none, unless test is val."""
        calibrating, names = self._calibrating
        test = self.shards("test").table(["id"])["id"].to_pylist()
        return np.isin(test, np.array(names)[calibrating])

    def head(self, sn_layers: int, seed: int) -> LinearHead:
        """The model's last layer."""
        return load_head(self.folders.model(sn_layers, seed))

    def tuning(self, sn_layers: int, seed: int) -> Tuning:
        """What was tuned, by score; empty where nothing was."""
        return read_tuning(self.folders.tuned(sn_layers, seed))

    def threshold(self, sn_layers: int, seed: int) -> float:
        """The joint energy from which on the model accepts an image, chosen on val."""
        return read_config(self.folders.model(sn_layers, seed)).threshold.tau

    def normalized_weights(self, sn_layers: int) -> int:
        """How many weights a depth normalises."""
        return read_config(self.folders.model(sn_layers, self.seeds[0])).normalized_weights

    def saw_pseudo_ood(self, sn_layers: int) -> bool:
        """Whether the models of a depth were trained with pseudo-OOD images."""
        return read_config(self.folders.model(sn_layers, self.seeds[0])).saw_pseudo_ood

    def check_models(self, depths: Iterable[int]) -> None:
        """Raise a SnojoeError that names the files of models which are not as they were written."""
        for depth in dict.fromkeys(depths):
            for seed in self.seeds:
                check_model(self.folders.model(depth, seed))

    def sigmas(self, models: Mapping[str, int]) -> pd.DataFrame:
        """Sigma of every weight and epoch, with columns ``model`` and ``seed``."""
        frames = [
            read_sigmas(self.folders.model(depth, seed)).assign(model=model, seed=seed)
            for model, depth in models.items()
            for seed in self.seeds
        ]
        return pd.concat(frames, ignore_index=True)

    def history(self, depths: Iterable[int]) -> pd.DataFrame:
        """Loss and mAP per epoch, with columns ``sn_layers`` and ``seed``."""
        frames = [
            read_history(self.folders.model(depth, seed)).assign(sn_layers=depth, seed=seed)
            for depth in dict.fromkeys(depths)
            for seed in self.seeds
        ]
        return pd.concat(frames, ignore_index=True)
