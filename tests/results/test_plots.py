from functools import partial

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from snojoe.measures.curves import pr_series, roc_series
from snojoe.results import plots

TWO_SETS = ["novel_digits", "textures"]
SIX_SETS = [
    "a-long-name-of-hyphenated-words-for-unseen-objects",
    "another_long_name_with_underscores_in_it",
    "onelongwordwithoutanyplaceatwhichtobreakitatall",
    "x",
    "DTD.r1.0.1",
    "textures",
]


def scores(sets, seed=0):
    rng = np.random.default_rng(seed)
    id_scores = {model: rng.gamma(9, 1, 90) for model in plots.MODEL_STYLES}
    ood_scores = {
        name: {model: rng.gamma(6, 1, 70) for model in plots.MODEL_STYLES} for name in sets
    }
    return id_scores, ood_scores


def curves(series, sets, seeds):
    frames = []
    for seed in range(seeds):
        id_scores, ood_scores = scores(sets, seed)
        frames += [
            series(id_scores[model], ood[model], 21).assign(ood_set=name, model=model, seed=seed)
            for name, ood in ood_scores.items()
            for model in id_scores
        ]
    return pd.concat(frames)


def history(depths=(0, 9), seeds=2, epochs=3):
    index = pd.MultiIndex.from_product(
        [depths, range(seeds), range(1, epochs + 1)], names=["sn_layers", "seed", "epoch"]
    )
    values = np.random.default_rng(0).random((len(index), 3))
    columns = ["train_loss", "val_loss", "val_map"]
    return pd.DataFrame(values, index, columns).reset_index()


def table3(sets, seeds, depths=(0, 7, 8, 9)):
    index = pd.MultiIndex.from_product(
        [sets, depths, range(seeds)], names=["ood_set", "sn_layers", "seed"]
    )
    values = np.random.default_rng(0).uniform(20, 90, (len(index), 3))
    return pd.DataFrame(values, index, ["fpr95", "auroc", "aupr"]).reset_index()


def intervals(frame):
    means = frame.groupby(["ood_set", "sn_layers"], as_index=False)[
        ["fpr95", "auroc", "aupr"]
    ].mean()
    for metric in ("fpr95", "auroc", "aupr"):
        means[f"{metric}_low"], means[f"{metric}_high"] = means[metric] - 2, means[metric] + 1
    return means


def sigmas(weights):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            **{"model": model, "epoch": epoch, "weight": f"w{i}"},
            **{"sigma": rng.gamma(4), "normalized": model == "sn"},
        }
        for model in plots.MODEL_STYLES
        for epoch in (0, 4)
        for i in range(weights)
    )


def distances(sets):
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"input": rng.gamma(9, 1, 60), "feature": rng.gamma(9, 1, 60)}).assign(
            model=model, pair=pair
        )
        for model in plots.MODEL_STYLES
        for pair in ("id", *sets)
    ]
    return pd.concat(frames)


def pictures(sets, seeds):
    """Every kind of picture, as a function of the path alone."""
    id_scores, ood_scores = scores(sets)
    return {
        "histograms": partial(
            plots.plot_histograms,
            id_scores=id_scores,
            ood_scores=ood_scores,
            thresholds={"control": 4.5, "sn": 5.0},
            seed=0,
        ),
        "roc": partial(plots.plot_roc, roc=curves(roc_series, sets, seeds)),
        "pr": partial(
            plots.plot_pr,
            pr=curves(pr_series, sets, seeds),
            chance=dict.fromkeys(sets, 90 / 160),
        ),
        "training": partial(plots.plot_training, history=history(seeds=seeds)),
        "ablation": partial(
            plots.plot_ablation,
            table3=table3(sets, seeds),
            intervals=intervals(table3(sets, seeds)),
        ),
        "sigmas": partial(plots.plot_sigmas, sigmas=sigmas(weights=14 * seeds)),
        "distances": partial(plots.plot_distances, distances=distances(sets)),
    }


KINDS = list(pictures(TWO_SETS, 1))


def assert_sane(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert all(400 <= side <= 2200 for side in image.size)
        assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 20
    assert 5_000 < path.stat().st_size < 200_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("sets", "seeds"), [(["textures"], 1), (SIX_SETS, 10)])
def test_picture_is_a_png_of_sane_size(tmp_path, kind, sets, seeds):
    path = tmp_path / "new" / "picture.png"
    pictures(sets, seeds)[kind](path)
    assert_sane(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_repeat_whatever_the_user_has_set(tmp_path, kind):
    draw = pictures(["textures"], 2)[kind]
    draw(tmp_path / "first.png")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 30, "lines.linewidth": 5}):
        draw(tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_png_says_nothing_of_software_or_date(tmp_path):
    plots.plot_training(tmp_path / "picture.png", history())
    with Image.open(tmp_path / "picture.png") as image:
        assert image.info.keys() <= {"dpi"}


def test_drawing_leaves_the_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    plots.plot_training(tmp_path / "picture.png", history())
    assert dict(matplotlib.rcParams) == before


def alone(values):
    """Of the control, what is of both models."""
    if isinstance(values, pd.DataFrame):
        return values[values["model"] == "control"]
    if isinstance(values, dict):
        return {name: alone(value) for name, value in values.items() if name != "sn"}
    return values


@pytest.mark.parametrize("kind", ["histograms", "roc", "pr", "sigmas", "distances"])
@pytest.mark.parametrize("sets", [TWO_SETS, SIX_SETS[:5]])
def test_one_network_is_no_control(tmp_path, kind, sets, monkeypatch):
    said = []
    legend = plots._legend_below
    monkeypatch.setattr(plots, "_legend_below", lambda *a: said.extend(a[2]) or legend(*a))
    draw = pictures(sets, 2)[kind]
    draw(tmp_path / "one.png", **{name: alone(value) for name, value in draw.keywords.items()})
    assert_sane(tmp_path / "one.png")
    assert said
    assert not [label for label in said if "control" in label or "SN" in label]


def test_histograms_of_scores_far_off_and_of_equal_scores(tmp_path):
    id_scores = {"control": np.append(np.linspace(3, 9, 400), 1e6), "sn": np.full(50, 3.0)}
    ood_scores = {"textures": {"control": np.linspace(0, 5, 300), "sn": np.full(9, 3.0)}}
    thresholds = {"control": 3.3, "sn": 3.0}
    plots.plot_histograms(tmp_path / "far.png", id_scores, ood_scores, thresholds, seed=0)
    assert_sane(tmp_path / "far.png")


@pytest.mark.parametrize(
    ("depths", "epochs"), [((0,), 1), ((9,), 50), ((0, 5, 7, 8, 9, 10, 11, 12), 3)]
)
def test_training_of_any_depths(tmp_path, depths, epochs):
    plots.plot_training(tmp_path / "training.png", history(depths, epochs=epochs))
    assert_sane(tmp_path / "training.png")


def test_ablation_where_one_depth_lacks_a_seed(tmp_path):
    table = table3(TWO_SETS, 2)
    plots.plot_ablation(
        tmp_path / "ablation.png", table.drop(index=table.index[-1]), intervals(table)
    )
    assert_sane(tmp_path / "ablation.png")


def bin_range(values):
    edges, label = plots._bins(np.asarray(values, dtype=float))
    return edges[0], edges[-1], label


def test_bins_span_ordinary_scores():
    assert bin_range(np.linspace(2, 8, 100)) == (2, 8, "joint energy")


def test_bins_leave_one_odd_image_out_and_say_so():
    low, high, label = bin_range([*np.linspace(0, 10, 1001), 1e6])
    assert low == 0
    assert 10 < high < 20
    assert "outermost bins" in label


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("novel_digits", ["novel_digits"]),
        (SIX_SETS[0], ["a-long-name-of-hyphenated-words-for-", "unseen-objects"]),
        (SIX_SETS[1], ["another_long_name_with_", "underscores_in_it"]),
        (SIX_SETS[2], ["onelongwordwithoutanyplaceatwhichtob", "reakitatall"]),
    ],
)
def test_long_names_break_where_words_end(name, lines):
    assert plots._wrapped(name).split("\n") == lines


@pytest.mark.parametrize("kind", ["roc", "pr", "training", "ablation"])
def test_missing_column_is_named(tmp_path, kind):
    draw = pictures(["textures"], 1)[kind]
    name, frame = next(iter(draw.keywords.items()))
    with pytest.raises(ValueError, match=rf"{name} must have the columns .*; misses \['seed'\]"):
        draw(tmp_path / "picture.png", **{name: frame.drop(columns="seed")})


@pytest.mark.parametrize("kind", ["roc", "pr", "training", "ablation"])
def test_empty_frame_is_refused(tmp_path, kind):
    draw = pictures(["textures"], 1)[kind]
    name, frame = next(iter(draw.keywords.items()))
    with pytest.raises(ValueError, match=f"{name} must have at least one row"):
        draw(tmp_path / "picture.png", **{name: frame.iloc[:0]})


def test_unknown_model_is_named(tmp_path):
    roc = curves(roc_series, ["textures"], 1).replace({"model": {"sn": "snojoe"}})
    with pytest.raises(ValueError, match=r"among control, sn; got \['control', 'snojoe'\]"):
        plots.plot_roc(tmp_path / "roc.png", roc)


def test_histograms_need_an_ood_set(tmp_path):
    with pytest.raises(ValueError, match="at least one OOD set"):
        plots.plot_histograms(tmp_path / "p.png", {"control": [1.0]}, {}, {"control": 1.0}, seed=0)


def test_histograms_refuse_bad_scores_and_write_nothing(tmp_path):
    ood_scores = {"textures": {"control": [np.nan]}}
    with pytest.raises(ValueError, match=r"ood_scores\['textures'\]\['control'\] must be finite"):
        plots.plot_histograms(
            tmp_path / "p.png", {"control": [1.0]}, ood_scores, {"control": 1.0}, seed=0
        )
    assert not any(tmp_path.iterdir())
