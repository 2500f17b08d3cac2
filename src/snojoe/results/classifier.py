"""How good is the classifier itself? Its mAP on val, and what its threshold accepts."""

from __future__ import annotations

import pandas as pd

from snojoe.measures.metrics import FloatArray, average_precision, interpolated_average_precision
from snojoe.results.stored import Experiment
from snojoe.support.errors import SnojoeError


def classifier_metrics(
    experiment: Experiment, sn_layers: int, energies: FloatArray
) -> pd.DataFrame:
    """How good the classifier is, and what its shipped threshold really accepts; per seed.

    Parameters
    ----------
    experiment : Experiment
    sn_layers : int
        Depth of the models.
    energies : (seeds, n) float64 array
        Their joint energies of the ID test images.

    Returns
    -------
    DataFrame
        Columns ``seed``, ``map`` (mean average precision on val), ``map_interpolated`` (the
        protocol's own: linear interpolation), ``accepted`` (share at or above the val threshold of
        the ID test images that have a label, for which tau is fitted; of all, where test has no
        labels), all in percent, and ``classes`` (number with a positive in val).

    Raises
    ------
    SnojoeError
        If outputs or models are missing or damaged, or the val images have no labels.
    """
    rows = []
    for seed, energy in zip(experiment.seeds, energies, strict=True):
        val = experiment.outputs(sn_layers, seed, "val")
        if val.labels is None:
            raise SnojoeError("val: expected labelled images")
        precision = average_precision(val.labels, val.logits)
        interpolated = interpolated_average_precision(val.labels, val.logits)
        defined = precision == precision
        test = experiment.outputs(sn_layers, seed, "test").labels
        promised = energy if test is None or not test.any() else energy[test.any(axis=1)]
        rows.append(
            {
                "seed": seed,
                "map": 100 * precision[defined].mean(),
                "map_interpolated": 100 * interpolated[defined].mean(),
                "classes": int(defined.sum()),
                "accepted": 100 * float((promised >= experiment.threshold(sn_layers, seed)).mean()),
            }
        )
    return pd.DataFrame(rows)
