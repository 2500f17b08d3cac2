"""From the files that score and ablate wrote to one page."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from snojoe.data.prepare import read_classes
from snojoe.model.architectures import layer_names
from snojoe.params import Params
from snojoe.results.grids import Experiment
from snojoe.results.headline import Verdict, interval, overall, verdicts
from snojoe.results.paper import TABLE_2, TABLE_3, paper_set
from snojoe.results.report.cells import (
    LayerSigma,
    SetTable,
    full_table2_cells,
    mean_distances,
    sigma_by_layer,
    table2_cells,
    table3_cells,
)
from snojoe.results.report.pictures import PictureSet, data_uri, picture_sets
from snojoe.results.tables import HEADINGS, id_test_note, p_value, paper_cut


class Figure(NamedTuple):
    """A picture of the ``plots`` folder, inlined."""

    src: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Report:
    """What the template shows; `read_report` reads it."""

    overall: str
    verdicts: list[Verdict]
    statistics: Mapping[str, Any]
    paper_cuts: Mapping[str, float]
    scores: Mapping[str, Any]
    seeds: Sequence[int]
    facts: Mapping[str, str]
    table2: list[SetTable]
    table2_full: list[SetTable]
    table3: list[SetTable]
    figures: Mapping[str, Figure]
    picture_sets: list[PictureSet]
    threshold: float
    sigmas: list[LayerSigma]
    distances: list[tuple[str, str, list[float]]]
    id_test_note: str
    tuned: bool


def read_report(
    params: Params, experiment: Experiment, metrics: Path, plots: Path, prepared: Path
) -> Report:
    """Collect what a page shows.

    Parameters
    ----------
    params : Params
    experiment : Experiment
        Its models and outputs; only those of the main depth and the first seed are read.
    metrics, plots : Path
        Folders that score and ablate wrote.
    prepared : Path
        Folder of the shards.

    Raises
    ------
    SnojoeError
        If shards or outputs are missing or damaged.
    """
    scores, statistics = (_read_json(metrics / f"{n}.json") for n in ("scores", "statistics"))
    table2, table3 = (read_table(metrics / f"{n}.csv") for n in ("table2", "table3"))
    sigma, history = (read_table(plots / f"{n}.csv") for n in ("sigma", "training"))
    counts = _read_json(prepared / "report.json")
    classes = read_classes(prepared)
    known = {name: paper_set(name, counts, classes) for name in params.data.ood}
    found = verdicts(scores, statistics)
    config = experiment.config(params.sn_layers, params.seeds[0])
    alts = _alternative_texts(scores, table3, sigma, history)
    return Report(
        overall=overall(found),
        verdicts=found,
        statistics=statistics,
        paper_cuts={s: paper_cut(TABLE_2[p]) for s, p in known.items() if p},
        scores=scores,
        seeds=params.seeds,
        facts=_facts(params, config.normalized_weights, statistics["images"], len(classes)),
        table2=table2_cells(table2, statistics, {s: TABLE_2[p] for s, p in known.items() if p}),
        table2_full=full_table2_cells(table2),
        table3=table3_cells(
            table3,
            read_table(plots / "ablation.csv"),
            {s: TABLE_3[p] for s, p in known.items() if p},
        ),
        figures={name: _figure(plots / f"{name}.png", alt) for name, alt in alts.items()},
        picture_sets=picture_sets(experiment, prepared, classes, params.sn_layers),
        threshold=config.threshold.tau,
        sigmas=sigma_by_layer(sigma, layer_names(params.model.arch)),
        distances=mean_distances(read_table(metrics / "distances.csv")),
        id_test_note=id_test_note(counts).strip(),
        tuned=bool(statistics["tuning"]),
    )


def render(report: Report) -> str:
    """The page, which loads nothing and runs nothing."""
    environment = Environment(
        loader=PackageLoader("snojoe.results", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = interval
    environment.filters["p_value"] = lambda p: p_value(nan if p is None else p)
    environment.filters["thousands"] = "{:,}".format
    template = environment.get_template("page.html.jinja")
    return template.render(report=report, metrics=HEADINGS)


def _facts(params: Params, weights: int, images: Mapping[str, int], classes: int) -> dict[str, str]:
    """What was run, for people."""
    train, sn = params.train, params.spectral_norm
    frozen = train.freeze_after_epoch
    never = frozen is None or frozen >= train.epochs
    return {
        "network": f"{params.model.arch}, {params.model.weights or 'random initial weights'}",
        "SN": f"{sn.bound}, {sn.norm} norm, first {params.sn_layers} layers: {weights} weights",
        "training": f"epochs: {train.epochs}, batch size: {train.batch_size}; BatchNorm "
        + ("never frozen" if never else f"frozen after epoch {frozen}"),
        "seeds": ", ".join(map(str, params.seeds)),
        "images": f"{params.data.image_size} pixels, {classes} labels; test sets: "
        + ", ".join(f"{name} {count:,}" for name, count in images.items()),
    }


def _alternative_texts(
    scores: Mapping[str, Any], table3: pd.DataFrame, sigma: pd.DataFrame, history: pd.DataFrame
) -> dict[str, str]:
    """For each picture what it shows, and the figures that a look at it would give."""
    sets = [name for name in scores if name != "id"]

    def both(metric: str) -> str:
        pairs = (
            f"{s} {scores[s]['joint_energy'][metric]:.2f} and {scores[s]['snojoe'][metric]:.2f}"
            for s in sets
        )
        return f"{metric.upper()} in percent without and with SN: {'; '.join(pairs)}."

    depths = table3.groupby(["ood_set", "sn_layers"], sort=False)["fpr95"].mean().round(2)
    by_depth = "; ".join(
        f"{s} " + ", ".join(f"{value:.2f} at depth {depth}" for depth, value in depths[s].items())
        for s in sets
    )
    final = history[history["epoch"] == history["epoch"].max()].set_index("model")["val_map"]
    largest = sigma[sigma["epoch"] == sigma["epoch"].max()].groupby("model")["sigma"].max()
    return {
        "histograms": f"Histograms of the joint energy of ID test and OOD images. {both('fpr95')}",
        "roc": f"ROC curves of joint energy. {both('auroc')}",
        "pr": f"Precision-recall curves of joint energy. {both('aupr')}",
        "ablation": f"FPR95, AUROC and AUPR by depth of SN. FPR95 in percent: {by_depth}.",
        "training": "Loss and val mAP by epoch. Val mAP after the last: "
        + ", ".join(f"{model} {value:.1%}" for model, value in final.items())
        + ".",
        "sigma": "Spectral norm of each weight before and after training. Largest after it: "
        + ", ".join(f"{model} {value:.3g}" for model, value in largest.items())
        + ".",
        "distances": "Distance of the features of pairs of images against that of the images; "
        "the smallest and largest ratio are in the table below.",
    }


def _figure(path: Path, alt: str) -> Figure:
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        return Figure(data_uri(content, "image/png"), *image.size, alt)


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file in which OOD sets may have any name, such as 2012 or NA."""
    names = {"ood_set": str, "pair": str}
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
