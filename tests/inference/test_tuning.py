import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from committed import committed
from conftest import model_config

from snojoe.data.pseudo_ood import PSEUDO_OOD
from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.detectors import Mahalanobis
from snojoe.detectors.outputs import load_outputs
from snojoe.experiment import Folders
from snojoe.inference import infer, tuning
from snojoe.inference.infer import infer_id, infer_ood
from snojoe.inference.tuned import Tuned, read_tuning, write_tuning
from snojoe.inference.tuning import (
    MAHALANOBIS_EPS,
    ODIN_EPS,
    TEMPERATURES,
    chosen_noises,
    tune,
    tuning_images,
)
from snojoe.model.classifier import build_classifier
from snojoe.model.folder import change_depth, save_model
from snojoe.params import Params
from snojoe.support.errors import SnojoeError

ROOT = Path(__file__).parents[2]
SIDE = 16


def images(n):
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_classifier("resnet10", 3).eval()


@pytest.fixture(scope="module")
def detector():
    return Mahalanobis().fit(np.random.default_rng(0).normal(size=(600, 256)))


def test_the_grids_are_the_protocols():
    assert (len(ODIN_EPS), ODIN_EPS[0], ODIN_EPS[-1]) == (15, 0, 0.004)
    assert TEMPERATURES == (1, 10, 100, 1000)
    assert MAHALANOBIS_EPS == (0, 0.0005, 0.001, 0.0014, 0.002, 0.005)


def test_it_is_one_clean_pass_and_one_for_each_eps(model, detector):
    passes = []
    hook = model.trunk.register_forward_hook(lambda *_: passes.append(1))
    tune(model, detector, images(4), batch_size=4)
    hook.remove()
    sets = 1 + len(tuning.PSEUDO_OOD)
    assert ODIN_EPS[0] == MAHALANOBIS_EPS[0] == 0
    assert len(passes) == sets * (1 + len(ODIN_EPS[1:]) + len(MAHALANOBIS_EPS[1:]))


def test_the_temperature_changes_no_ranking(model, detector):
    scores = tuning._candidates(model, detector, images(6), batch_size=4)
    odin = {c: s for c, s in scores.items() if c.score == "odin"}
    for candidate, values in odin.items():
        plain = odin[candidate._replace(params=(("temperature", 1.0),))]
        assert (np.argsort(values) == np.argsort(plain)).all()


def test_batches_make_no_difference(model, detector):
    together, apart = (tuning._candidates(model, detector, images(5), b) for b in (5, 2))
    assert together.keys() == apart.keys()
    for candidate, values in together.items():
        np.testing.assert_allclose(apart[candidate], values, rtol=1e-3)


def fake_candidates(separates):
    """Scores 0 of every image, but 1 of the first set (val) for the candidates that separate."""
    calls = []

    def candidates(model, detector, images, batch_size):
        calls.append(1)
        keys = [
            *(tuning._Candidate("odin", e, (("temperature", t),)) for e in (0, 1) for t in (1, 10)),
            *(tuning._Candidate("mahalanobis", e) for e in (0, 1)),
        ]
        return {k: np.full(4, float(len(calls) == 1 and k in separates)) for k in keys}

    return candidates


def test_the_lowest_mean_fpr95_wins(monkeypatch):
    best = {
        tuning._Candidate("odin", 1, (("temperature", 10),)),
        tuning._Candidate("mahalanobis", 1),
    }
    monkeypatch.setattr(tuning, "_candidates", fake_candidates(best))
    assert tune(None, None, images(2)) == {
        "odin": Tuned(eps=1, params={"temperature": 10}, fpr95=0),
        "mahalanobis": Tuned(eps=1, params={}, fpr95=0),
    }


def test_among_equals_no_noise_wins(monkeypatch):
    monkeypatch.setattr(tuning, "_candidates", fake_candidates(set()))
    chosen = tune(None, None, images(2))
    assert chosen["odin"] == Tuned(eps=0, params={"temperature": 1}, fpr95=100)


def test_images_are_drawn_from_val_without_repetition(tmp_path, monkeypatch):
    rows = [ShardRow(str(i), image.tobytes(), None) for i, image in enumerate(images(9))]
    write_shards(tmp_path, rows, split="val", content="pixels", image_size=SIDE)
    assert (tuning_images(Shards(tmp_path)) == images(9)).all()
    monkeypatch.setattr(tuning, "IMAGES", 4)
    drawn = tuning_images(Shards(tmp_path))
    assert (drawn == tuning_images(Shards(tmp_path))).all()
    assert len({image.tobytes() for image in drawn} & {i.tobytes() for i in images(9)}) == 4


def test_a_score_without_noise_is_not_run_again(tmp_path):
    chosen = {
        "odin": Tuned(eps=0.0, params={"temperature": 1.0}, fpr95=1.0),
        "mahalanobis": Tuned(eps=0.001, params={}, fpr95=1.0),
    }
    write_tuning(tmp_path, chosen)
    (tmp_path / "train").mkdir()
    for field in ("logits", "features", "hidden", "labels"):
        np.save(tmp_path / "train" / f"{field}.npy", np.eye(6)[:, :3])
    noises = chosen_noises(tmp_path)
    assert list(noises) == ["mahalanobis"]
    assert noises["mahalanobis"].eps == 0.001


def test_what_was_chosen_is_read_as_it_was_written(tmp_path):
    assert read_tuning(tmp_path) == {}
    assert chosen_noises(tmp_path) == {}
    chosen = {"odin": Tuned(eps=0.002, params={"temperature": 10.0}, fpr95=12.5)}
    write_tuning(tmp_path, chosen)
    assert read_tuning(tmp_path) == chosen
    (tmp_path / "tuning.json").write_text('{"odin": {"eps": 0.002}}')
    with pytest.raises(SnojoeError, match=r"tuning\.json: not readable"):
        read_tuning(tmp_path)


def test_they_are_tuned_and_then_the_noise_is_added_once_for_the_same_models(
    model, tmp_path, monkeypatch
):
    chosen = {
        "odin": Tuned(eps=0.002, params={"temperature": 1.0}, fpr95=1.0),
        "mahalanobis": Tuned(eps=0.0, params={}, fpr95=1.0),
    }
    monkeypatch.setattr(infer, "tune", lambda *_, **__: chosen)
    folders = Folders(tmp_path)
    for name in ("train", "val", "test", "textures"):
        labels = np.eye(3, dtype=np.uint8)
        rows = [ShardRow(str(i), p.tobytes(), labels[i % 3]) for i, p in enumerate(images(6))]
        target = folders.shards(name)
        write_shards(target, rows, split=name, content="pixels", image_size=SIDE)
    folders.model(0, 0).mkdir(parents=True)
    save_model(model, folders.model(0, 0), model_config("abc"), np.zeros(50))
    tree = yaml.safe_load(committed("params.yaml"))
    tree["seeds"], tree["infer"]["tune"] = [0], True
    tree["data"]["ood"] = {"textures": {"embedded": "textures"}}
    params = Params.model_validate(tree)
    notes = tmp_path / "notes"
    infer_id(params, folders, 0, notes)
    infer_ood(params, folders, 0, notes)
    noisy = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("outputs/**/*_*.npy")}
    assert noisy == {
        "outputs/sn0/id/seed0/val/odin_logits.npy",
        "outputs/sn0/id/seed0/test/odin_logits.npy",
        "outputs/sn0/ood/seed0/textures/odin_logits.npy",
    }
    assert read_tuning(folders.tuned(0, 0)) == chosen
    shutil.copytree(folders.model(0, 0), folders.model(5, 0))
    change_depth(folders.model(5, 0), 5)
    with monkeypatch.context() as patch:
        patch.setattr(infer, "load_model", None)
        infer_id(params, folders, 5, notes)
        infer_ood(params, folders, 5, notes)
    of_both = [tmp_path / "outputs" / depth for depth in ("sn0", "sn5")]
    same, other = ({p.relative_to(d): p.read_bytes() for p in d.rglob("*.*")} for d in of_both)
    assert same == other
    monkeypatch.setattr(infer, "load_model", None)
    tree["infer"]["batch_size"] += 1
    with pytest.raises(TypeError, match="NoneType"):
        infer_ood(Params.model_validate(tree), folders, 5, notes)


def test_val_images_and_what_is_made_of_them_are_kept_to_choose_a_score_by(
    model, tmp_path, monkeypatch
):
    params = Params.model_validate(yaml.safe_load(committed("params.yaml")) | {"seeds": [0]})
    folders = Folders(tmp_path)
    monkeypatch.setattr(infer, "PSEUDO_IMAGES", 5)
    infer._write_pseudo(params, [model], images(8), folders.id_outputs(0))
    sets = {name: folders.pseudo_outputs(0, 0) / name for name in ("id", *PSEUDO_OOD)}
    found = {name: load_outputs(folder) for name, folder in sets.items()}
    assert {each.hidden.shape for each in found.values()} == {(5, 1000)}
    with torch.inference_mode():
        every = model.eval()(model.normalise(torch.from_numpy(images(8)))).numpy()
    for row in found["id"].logits:
        assert np.isclose(every, row, rtol=1e-4, atol=1e-5).all(axis=1).any()
    assert not np.allclose(found["jigsaw"].logits, found["id"].logits, rtol=1e-3)
    infer._write_pseudo(params, [model], images(1), folders.id_outputs(7))
    assert not folders.pseudo_outputs(7, 0).exists()
