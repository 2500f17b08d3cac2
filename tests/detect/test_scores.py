"""Deciding by any score."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import jpeg, model_folder, write_folder
from PIL import Image

import snojoe
from snojoe.cli import main
from snojoe.data.images import decode
from snojoe.data.pseudo_ood import SEEN
from snojoe.detectors import ModelOutputs, fit_detector
from snojoe.detectors.outputs import load_head
from snojoe.detectors.store import keep_detector, write_store
from snojoe.experiment import Folders
from snojoe.inference.perturbation import outputs_with_noise
from snojoe.measures.thresholds import calibrated_threshold
from snojoe.model.folder import check_model, read_config, weights_digest
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_sums

IMAGES = [decode(jpeg(seed)) for seed in range(6)]
SCORES = ("joint_energy", "knn", "vim")


def outputs_of(n=60, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, 3)), rng.random((n, 256)), rng.random((n, 1000))]
    return ModelOutputs(*(np.float32(each) for each in arrays))


def write_detectors(model, target, knn, scores=SCORES, eps=0.0):
    """Detectors fitted on random outputs, for a model of `model_folder`."""
    target.mkdir(parents=True)
    config = read_config(model)
    measured = {}
    for score in scores:
        detector = fit_detector(score, outputs_of(), outputs_of(), load_head(model))
        detector.calibrate_outputs(outputs_of(config.val.images, seed=1))
        keep_detector(target, detector)
        measured[score] = {
            "id": detector.score_outputs(outputs_of(20, seed=2)),
            "far": detector.score_outputs(outputs_of(10, seed=3)) - 5,
        }
    write_store(
        target,
        measured,
        model=weights_digest(model),
        val=config.val.sha256,
        pseudo_fpr95={"joint_energy": 0.5, "vim": 0.3, "knn": knn},
        noise=dict.fromkeys(scores, eps) if eps else {},
    )


def network_says(detector, image):
    (model,) = detector.models
    pixels = torch.from_numpy(detector._pixels(image)[None])
    with torch.inference_mode():
        return ModelOutputs(*(a.numpy() for a in model.outputs(model.normalise(pixels))))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folders = Folders(tmp_path_factory.mktemp("project"))
    for seed in (0, 1):
        model_folder(folders.model(9, seed), seed)
        write_detectors(folders.model(9, seed), folders.detectors_of(9, seed), 0.4 - 0.3 * seed)
    return folders


@pytest.fixture
def model(root):
    return root.model(9, 0)


def test_the_score_decides_and_the_energy_stays(model):
    detector = snojoe.load_detector(model, score="knn")
    (scorer,) = detector.scorers
    expected = [scorer(network_says(detector, image))[0] for image in IMAGES]
    found = detector(IMAGES)
    np.testing.assert_allclose([each.score for each in found], expected, rtol=1e-5)
    by_energy = snojoe.load_detector(model)(IMAGES)
    np.testing.assert_allclose(
        [each.energy for each in found], [each.energy for each in by_energy], rtol=1e-6
    )
    assert found[0].labels == by_energy[0].labels
    tau = np.median([each.score for each in found])
    object.__setattr__(detector.decision, "tau", tau)
    decided = [each.in_distribution for each in detector(IMAGES)]
    assert decided == [each.score >= tau for each in found]
    assert {*decided} == {True, False}


def test_of_several_models_the_mean_is_calibrated(root):
    models = [root.model(9, seed) for seed in (0, 1)]
    alone = [snojoe.load_detector(model, score="vim") for model in models]
    both = snojoe.load_detector(models, accept=0.9, score="vim")
    calibration = np.mean([each.decision.calibration for each in alone], axis=0)
    assert both.decision.tau == calibrated_threshold(calibration, 0.9)
    mean = np.mean([each(IMAGES[:1])[0].score for each in alone])
    assert both(IMAGES[:1])[0].score == pytest.approx(mean)
    expected = np.mean([each.measured["far"] for each in alone], axis=0)
    assert np.array_equal(both.measured["far"], expected)


def test_auto_is_the_score_with_the_lowest_mean_on_pseudo_ood_images(root, tmp_path):
    models = [root.model(9, seed) for seed in (0, 1)]
    assert snojoe.load_detector(models[0], score="auto").decision.score == "vim"
    assert snojoe.load_detector(models, score="auto").decision.score == "knn"
    shutil.copytree(models[0], tmp_path / "bare")
    with pytest.raises(SnojoeError, match="auto needs its stored detector"):
        snojoe.load_detector(tmp_path / "bare", score="auto")


def test_auto_says_where_such_images_were_trained_with(root, model, tmp_path, capsys):
    write_folder(tmp_path, {"a.jpg": jpeg(0)})
    own = tmp_path / "own"
    shutil.copytree(model, own)
    shutil.copytree(root.detectors_of(9, 0), own / "scores")
    command = ["detect", str(tmp_path / "a.jpg"), "--model", str(own), "--score"]
    for outliers, said in (("pseudo_ood", f"auto: vim; {SEEN}; "), ("auxiliary", "auto: vim; in")):
        config = read_config(own).model_copy(update={"train": {"outliers": outliers}})
        (own / "config.json").write_text(config.model_dump_json())
        write_sums(own)
        main([*command, "auto"])
        assert f"1 model; {said}" in "".join(capsys.readouterr())
    main([*command, "vim"])
    assert SEEN not in "".join(capsys.readouterr())


def test_detectors_are_shipped_within_the_models_folder(root, model, tmp_path):
    shutil.copytree(model, tmp_path / "shipped")
    places = r"shipped/scores: `dvc repro score`.*; joint_energy needs none"
    with pytest.raises(SnojoeError, match=places):
        snojoe.load_detector(tmp_path / "shipped", score="knn")
    assert snojoe.load_detector(tmp_path / "shipped").measured == {}
    shutil.copytree(root.detectors_of(9, 0), tmp_path / "shipped/scores")
    shipped = snojoe.load_detector(tmp_path / "shipped", score="knn")
    assert shipped(IMAGES) == snojoe.load_detector(model, score="knn")(IMAGES)
    assert snojoe.load_detector(tmp_path / "shipped").measured.keys() == {"id", "far"}


def test_joint_energy_waits_for_no_library_of_other_scores_and_no_compiler(root, model, tmp_path):
    shutil.copytree(model, tmp_path / "shipped")
    shutil.copytree(root.detectors_of(9, 0), tmp_path / "shipped/scores")
    code = """
import sys, snojoe
detector = snojoe.load_detector("shipped")
detector(["image.png"])
heavy = ("matplotlib", "pandas", "pyarrow", "scipy.stats", "sklearn", "torch._dynamo")
print(sorted(detector.measured), [name for name in heavy if name in sys.modules])
"""
    Image.new("RGB", (40, 40)).save(tmp_path / "image.png")
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert printed == "['far', 'id'] []\n"


def test_what_does_not_belong_to_the_model_is_refused(root, model, tmp_path):
    with pytest.raises(SnojoeError, match=r"score: expected one of max_logit, .*got 'nn'"):
        snojoe.load_detector(model, score="nn")
    with pytest.raises(SnojoeError, match="has no detector odin; there are joint_energy, knn, vim"):
        snojoe.load_detector(model, score="odin")
    other = tmp_path / "other"
    shutil.copytree(model, other)
    shutil.copytree(root.detectors_of(9, 1), other / "scores")
    with pytest.raises(SnojoeError, match="scores: made for other weights than those of"):
        snojoe.load_detector(other, score="knn")
    assert snojoe.load_detector(other).measured == {}


def test_calibrating_moves_every_score_that_is_stored(root, model, tmp_path, capsys):
    own = tmp_path / "own"
    shutil.copytree(model, own)
    shutil.copytree(root.detectors_of(9, 0), own / "scores")
    images = write_folder(tmp_path / "images", {f"{i}.jpg": jpeg(i) for i in range(20)})
    assert main(["calibrate", str(own), str(images)]) == 0
    assert "for --score, on the same images: knn, vim\n" in capsys.readouterr().out
    check_model(own)
    for score in SCORES:
        detector = snojoe.load_detector(own, score=score)
        found = [each.score for each in detector(sorted(images.iterdir()))]
        np.testing.assert_allclose(np.sort(detector.decision.calibration), np.sort(found), 1e-6)
        assert detector.decision.tau == calibrated_threshold(detector.decision.calibration)
        assert detector.decision.source == str(images)
        # The images that it was measured on have the same scores.
        assert detector.measured.keys() == {"id", "far"}


def test_a_detector_that_came_after_the_calibration_is_refused(root, model, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(model, own)
    images = write_folder(tmp_path / "images", {f"{i}.jpg": jpeg(i) for i in range(20)})
    assert main(["calibrate", str(own), str(images)]) == 0
    shutil.copytree(root.detectors_of(9, 0), own / "scores")
    with pytest.raises(SnojoeError, match=r"own: calibrated on .*images without knn.*calibrate"):
        snojoe.load_detector(own, score="knn")


def test_noise_that_was_tuned_is_added(root, model, tmp_path):
    own, eps = tmp_path / "own", 0.004
    shutil.copytree(model, own)
    write_detectors(own, own / "scores", 0.5, scores=("odin", "mahalanobis"), eps=eps)
    for score in ("odin", "mahalanobis"):
        detector = snojoe.load_detector(own, score=score)
        (network,), (scorer,) = detector.models, detector.scorers
        assert scorer.noise.eps == eps
        for image, found in zip(IMAGES, detector(IMAGES), strict=True):
            pixels = network.normalise(torch.from_numpy(detector._pixels(image)[None]))
            _, noisy = outputs_with_noise(network, pixels, {score: scorer.noise})
            noisy = ModelOutputs(*(each.numpy() for each in noisy[score]))
            assert found.score == pytest.approx(scorer(noisy)[0], rel=1e-5)
            assert abs(found.score - scorer(network_says(detector, image))[0]) > 1e-4


@pytest.mark.parametrize("score", ["vim", "lof", "isolation_forest"])
def test_a_score_is_exported_with_its_calibration(score, model, tmp_path):
    ort = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    own = tmp_path / "own"
    shutil.copytree(model, own)
    write_detectors(own, own / "scores", 0.5, scores=(score,))
    target = tmp_path / "m.onnx"
    assert main(["export", "--onnx", str(target), "--model", str(own), "--score", score]) == 0
    session = ort.InferenceSession(target)
    metadata = session.get_modelmeta().custom_metadata_map
    detector = snojoe.load_detector(own, score=score)
    assert (metadata["score"], float(metadata["tau"])) == (score, detector.decision.tau)
    images = [np.asarray(image.resize((16, 16))) for image in IMAGES]  # as large as the model's
    for image, expected in zip(images, detector(images), strict=True):
        _, energy, inside, found, p_value = session.run(None, {"image": image})
        assert energy == pytest.approx(expected.energy, rel=1e-4)
        assert found == pytest.approx(expected.score, rel=1e-4)
        assert bool(inside) == expected.in_distribution
        assert p_value == pytest.approx(expected.p_value)


def test_what_takes_a_gradient_is_not_exported(model, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    own = tmp_path / "own"
    shutil.copytree(model, own)
    write_detectors(own, own / "scores", 0.5, scores=("odin",), eps=0.002)
    target = tmp_path / "m.onnx"
    assert main(["export", "--onnx", str(target), "--model", str(own), "--score", "odin"]) == 2
    assert "odin was tuned to input noise (0.002)" in capsys.readouterr().err
    assert not target.exists()


def test_the_first_line_says_what_was_measured(root, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root.root)
    image = write_folder(tmp_path, {"a.jpg": jpeg()}) / "a.jpg"
    for options in (["--accept", "0.95"], ["--accept", "0.5"], ["--score", "knn"]):
        main(["detect", str(image), "--model", "models/sn9/seed0", *options])
        first = capsys.readouterr().err.splitlines()[0]
        score = "knn" if "knn" in options else "joint_energy"
        accept = float(options[1]) if "--accept" in options else 0.95
        detector = snojoe.load_detector(model, accept, score=score)
        tau, measured = detector.decision.tau, detector.measured
        accepted = (measured["id"] >= tau).mean()
        caught = (measured["far"] < tau).mean()
        assert f"accepted {100 * accepted:.1f}% [" in first
        assert f"of 20 test images, caught {100 * caught:.1f}% of far" in first
        assert ("knn >= " if score == "knn" else "energy >= ") in first
    main(["detect", str(image), "--model", "models/sn9/seed0", "--fdr", "0.1"])
    assert "caught" not in capsys.readouterr().err
