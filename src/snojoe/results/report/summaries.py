"""What the report says of weights and distances, summed up from the files of the score stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd


class LayerSigma(NamedTuple):
    """Largest spectral norm in a counted layer: (before, after) training, by model."""

    layer: str
    weights: int
    sigmas: dict[str, tuple[float, float]]


def sigma_by_layer(sigma: pd.DataFrame, names: Sequence[str]) -> list[LayerSigma]:
    """From ``plots/sigma.csv`` and the names of the counted layers."""
    last = sigma["epoch"].max()
    largest: Any = sigma.groupby(["layer", "model", "epoch"])["sigma"].max()
    weights = sigma[sigma["layer"] > 0].groupby("layer")["weight"].nunique()
    return [
        LayerSigma(
            layer=f"{layer} {names[layer - 1]}",
            weights=int(count),
            sigmas={
                model: (largest[layer, model, 0], largest[layer, model, last])
                for model in sigma["model"].unique()
            },
        )
        for layer, count in zip(weights.index.to_list(), weights, strict=True)
    ]


def mean_distances(distances: pd.DataFrame) -> list[tuple[str, str, list[float]]]:
    """From ``metrics/distances.csv``: pair, model and means over seeds of its four figures."""
    columns = ["lower", "upper", "spread", "spearman"]
    means: Any = distances.groupby(["pair", "model"], sort=False)[columns].mean()
    return [(*pair_and_model, row.to_list()) for pair_and_model, row in means.iterrows()]
