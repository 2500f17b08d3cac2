"""From the files that score and ablate wrote to one page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from snojoe.data.overlap import read_known
from snojoe.data.prepared import PreparedSets, read_classes, read_prepared_sets
from snojoe.detectors import DETECTORS, JointEnergy
from snojoe.experiment import Folders
from snojoe.measures.ood_metrics import ALL_METRICS, AUPR, AUROC, FPR95, OOD_METRICS, Metric
from snojoe.model.architectures import layer_names
from snojoe.params import Params
from snojoe.results.at_work import AtWork, at_work
from snojoe.results.formatting import claim, interval, p_value, points, relative_cut
from snojoe.results.headline import Verdict, overall, verdicts
from snojoe.results.leaderboard import MODELS
from snojoe.results.markdown import id_test_note, known_note, seen_note
from snojoe.results.ood_classes import passing_classes
from snojoe.results.paper import (
    JOINT_ENERGYS,
    OF_JOINT_ENERGYS,
    PAPERS,
    TABLE_3,
    beside_table2,
    paper_cut,
    published,
)
from snojoe.results.report.limits import Limit, limits
from snojoe.results.report.pictures import PictureSet, data_uri, picture_sets
from snojoe.results.report.summaries import LayerSigma, mean_distances, sigma_by_layer
from snojoe.results.scores_json import Scores, read_scores
from snojoe.results.statistics_json import Statistics, read_statistics
from snojoe.results.stored import Experiment
from snojoe.results.tables import (
    FullSetTable,
    SetTable,
    full_table2_sets,
    table2_sets,
    table3_sets,
)

_SHOWN_CLASSES = 10


class InlinePlot(NamedTuple):
    """A picture of the ``plots`` folder, inlined."""

    src: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Page:
    """What the template shows; `read_page` reads it."""

    work: AtWork
    limits: list[Limit]
    overall: str
    verdicts: list[Verdict]
    statistics: Statistics
    paper_cuts: Mapping[str, float]
    scores: Scores
    seeds: Sequence[int]
    facts: Mapping[str, str]
    table2: list[SetTable]
    table2_full: list[FullSetTable]
    table3: list[SetTable]
    plots: Mapping[str, InlinePlot]
    picture_sets: list[PictureSet]
    ood_classes: Mapping[str, list[tuple[str, int, float, float]]]
    threshold: float
    sigmas: list[LayerSigma]
    distances: list[tuple[str, str, list[float]]]
    id_test_note: str
    others_note: str
    tuned: bool
    seen_note: str


def read_page(params: Params, folders: Folders) -> Page:
    """Collect what a page shows.

    Of models and outputs only those of the main depth and the first seed are read.

    Raises
    ------
    SnojoeError
        If the results, the prepared sets, a model or its outputs are missing or damaged.
    """
    experiment = Experiment.of(params, folders)
    scores = read_scores(folders.metrics / "scores.json")
    statistics = read_statistics(folders.metrics / "statistics.json")
    table2, distances = (
        read_table(folders.metrics / f"{name}.csv") for name in ("table2", "distances")
    )
    sigma, history = (read_table(folders.plots / f"{name}.csv") for name in ("sigma", "training"))
    table3 = None if params.ablation.is_one else read_table(folders.metrics / "table3.csv")
    sets, classes = read_prepared_sets(folders.prepared), read_classes(folders.prepared)
    beside2 = beside_table2(sets, classes)
    found = verdicts(scores, statistics)
    alts = _alternative_texts(scores, table2, table3, sigma, history)
    weights = experiment.normalized_weights(params.sn_layers)
    work = at_work(experiment, params.sn_layers)
    return Page(
        work=work,
        limits=limits(experiment, params.sn_layers, params.data, sets, classes, work),
        overall=overall(found) if found else "",
        verdicts=found,
        statistics=statistics,
        paper_cuts={name: paper_cut(figures) for name, figures in beside2[PAPERS].items()},
        scores=scores,
        seeds=params.seeds,
        facts=_facts(params, weights, statistics.images, len(classes)),
        table2=table2_sets(table2, statistics, beside2),
        table2_full=full_table2_sets(table2),
        table3=[] if table3 is None else _table3_sets(table3, folders, sets, classes),
        plots={name: _inlined(folders.plots / f"{name}.png", alt) for name, alt in alts.items()},
        picture_sets=picture_sets(experiment, classes, params.sn_layers),
        ood_classes=_classes(folders, params.sn_layers),
        threshold=experiment.threshold(params.sn_layers, params.seeds[0]),
        sigmas=sigma_by_layer(sigma, layer_names(params.model.arch)),
        distances=mean_distances(distances),
        id_test_note=(id_test_note(sets) + known_note(read_known(folders.prepared))).strip(),
        others_note=OF_JOINT_ENERGYS if beside2[JOINT_ENERGYS] else "",
        tuned=bool(statistics.tuning),
        seen_note=seen_note(experiment.saw_pseudo_ood(params.sn_layers)),
    )


def _classes(folders: Folders, sn_layers: int) -> dict[str, list[tuple[str, int, float, float]]]:
    """By OOD set the first classes of `passing_classes`: name, images, FPR95 and AUROC."""
    found = passing_classes(
        read_table(folders.metrics / "ood_classes.csv"),
        JointEnergy.name,
        "sn" if sn_layers else "control",
    )
    columns = ["ood_class", "images", "fpr95", "auroc"]
    return {
        name: list(of_set[columns].head(_SHOWN_CLASSES).itertuples(index=False, name=None))
        for name, of_set in found.items()
        if len(of_set) > 1
    }


def _table3_sets(
    table3: pd.DataFrame, folders: Folders, sets: PreparedSets, classes: list[str]
) -> list[SetTable]:
    intervals = read_table(folders.plots / "ablation.csv")
    return table3_sets(table3, intervals, {PAPERS: published(TABLE_3, sets, classes)})


def render(page: Page) -> str:
    """The page as HTML, which loads nothing and runs nothing."""
    environment = Environment(
        loader=PackageLoader("snojoe.results", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["claim"] = claim
    environment.filters["interval"] = interval
    environment.filters["p_value"] = p_value
    environment.filters["points"] = points
    environment.filters["thousands"] = "{:,}".format
    environment.globals["relative_cut"] = relative_cut
    template = environment.get_template("page.html.jinja")
    return template.render(page=page, metrics=OOD_METRICS, all_metrics=ALL_METRICS)


def _facts(params: Params, weights: int, images: Mapping[str, int], classes: int) -> dict[str, str]:
    """What was run, for people."""
    train, sn = params.train, params.spectral_norm
    depth = f"{sn.bound}, {sn.norm} norm, first {params.sn_layers} layers: {weights} weights"
    frozen = train.freeze_after_epoch
    never = frozen is None or frozen >= train.epochs
    asked = "" if train.loss == "bce" else f"; loss: {train.loss}"
    asked += f"; outliers: {train.outliers}" if train.outliers else ""
    return {
        "network": f"{params.model.arch}, {params.model.weights or 'random initial weights'}",
        **({"SN": depth} if params.sn_layers else {}),
        "training": f"epochs: {train.epochs}, batch size: {train.batch_size}; BatchNorm "
        + ("never frozen" if never else f"frozen after epoch {frozen}")
        + asked,
        "seeds": ", ".join(map(str, params.seeds)),
        "images": f"{params.data.image_size} pixels, {classes} labels; test sets: "
        + ", ".join(f"{name} {count:,}" for name, count in images.items()),
    }


def _first(table2: pd.DataFrame) -> str:
    """The three rows of the lowest mean rank, in words."""
    means = table2.groupby(["ood_set", "score", "model"])[AUROC.name].mean()
    ranks = means.groupby("ood_set").rank(ascending=False).groupby(["score", "model"]).mean()
    first = ranks.sort_values(kind="stable").head(3).reset_index()
    several = len(table2.model.unique()) > 1
    return ", ".join(
        f"{DETECTORS[score].title}{f' {MODELS[model]}' if several else ''} ({rank:.1f})"
        for score, model, rank in first.itertuples(index=False, name=None)
    )


def _alternative_texts(
    scores: Scores,
    table2: pd.DataFrame,
    table3: pd.DataFrame | None,
    sigma: pd.DataFrame,
    history: pd.DataFrame,
) -> dict[str, str]:
    """For each picture what it shows, and the figures that a look at it would give."""

    def both(metric: Metric) -> str:
        rows = ("joint_energy", "snojoe")
        figures = (
            f"{name} " + " and ".join(f"{of[row][metric.name]:.2f}" for row in rows if row in of)
            for name, of in scores.ood.items()
        )
        with_sn = any("snojoe" in of for of in scores.ood.values())
        of_which = " without and with SN" if with_sn else ""
        return f"{metric.title} in percent{of_which}: {'; '.join(figures)}."

    final = history[history["epoch"] == history["epoch"].max()].set_index("model")["val_map"]
    largest = sigma[sigma["epoch"] == sigma["epoch"].max()].groupby("model")["sigma"].max()
    alts = {
        "histograms": f"Histograms of the joint energy of ID test and OOD images. {both(FPR95)}",
        "leaderboard": f"Mean rank of every score over the OOD sets. First: {_first(table2)}.",
        "roc": f"ROC curves of joint energy. {both(AUROC)}",
        "pr": f"Precision-recall curves of joint energy. {both(AUPR)}",
        "training": "Loss and val mAP by epoch. Val mAP after the last: "
        + ", ".join(
            f"{model} {value:.1%}" if len(final) > 1 else f"{value:.1%}"
            for model, value in final.items()
        )
        + ".",
        "sigma": "Spectral norm of each weight before and after training. Largest after it: "
        + ", ".join(f"{model} {value:.3g}" for model, value in largest.items())
        + ".",
        "distances": "Distance of the features of pairs of images against that of the images; "
        "the smallest and largest ratio are in the table below.",
    }
    if table3 is not None:
        depths = table3.groupby(["ood_set", "sn_layers"], sort=False)[FPR95.name].mean().round(2)
        by_depth = "; ".join(
            f"{s} "
            + ", ".join(f"{value:.2f} at depth {depth}" for depth, value in depths[s].items())
            for s in scores.ood
        )
        alts["ablation"] = f"FPR95, AUROC and AUPR by depth of SN. FPR95 in percent: {by_depth}."
    return alts


def _inlined(path: Path, alt: str) -> InlinePlot:
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        return InlinePlot(data_uri(content, "image/png"), *image.size, alt)


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file in which OOD sets may have any name, such as 2012 or NA."""
    names = {"ood_set": str, "pair": str}
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])
