import json

import numpy as np
import pytest
from conftest import jpeg, model_folder, write_folder

import snojoe
from snojoe.cli import main
from snojoe.detect.calibrate import Scores
from snojoe.measures.thresholds import calibrated_threshold
from snojoe.model.folder import check_model, read_config, read_val_energies


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A model, and photographs of somebody's own."""
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")
    return write_folder(tmp_path / "mine", {f"{i:02d}.jpg": jpeg(i) for i in range(40)})


def test_the_threshold_follows_from_the_images_and_the_weights_stay(world, capsys):
    weights = (world.parent / "model/model.safetensors").read_bytes()
    before = read_config(world.parent / "model")
    assert main(["calibrate", "model", "mine"]) == 0
    said = capsys.readouterr().out
    assert "accepts 95.1% of new images like the 40 of mine" in said
    assert (world.parent / "model/model.safetensors").read_bytes() == weights
    check_model(world.parent / "model")
    config = read_config(world.parent / "model")
    assert (config.val.images, config.val.source) == (40, "mine")
    assert config.label_thresholds == before.label_thresholds
    detector = snojoe.load_detector("model")
    energies = [each.energy for each in detector(sorted(world.glob("*.jpg")))]
    np.testing.assert_allclose(read_val_energies(world.parent / "model"), energies, rtol=1e-6)
    assert detector.decision.tau == config.threshold.tau == calibrated_threshold(energies)
    assert sum(energy >= detector.decision.tau for energy in energies) == 39
    assert main(["detect", "mine", "--model", "model"]) == 1
    assert "40 of mine" in capsys.readouterr().err


def test_another_calibration_takes_the_place_of_the_first(world):
    main(["calibrate", "model", "mine"])
    write_folder(world.parent / "other", {f"{i}.jpg": jpeg(100 + i) for i in range(25)})
    main(["calibrate", "model", "other"])
    assert read_config(world.parent / "model").val.source == "other"
    assert len(read_val_energies(world.parent / "model")) == 25
    check_model(world.parent / "model")


def test_false_alarms_are_measured_on_images_held_out(world, capsys):
    assert main(["calibrate", "model", "mine", "--hold-out", "0.4"]) == 0
    names = [str(path) for path in sorted(world.iterdir())]
    rest, apart = Scores(names, {"joint_energy": np.arange(40.0)}, []).held_out(0.4)
    assert sorted([*rest.names, *apart.names]) == names
    assert [names[int(i)] for i in apart.energies] == apart.names
    out = len(apart.names)
    assert 10 < out < 22
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"false alarms on {out} images that it is not calibrated on: ")
    assert read_config(world.parent / "model").val.images == 40 - out


def test_false_alarms_are_measured_on_a_folder_given_for_it(world, capsys):
    write_folder(world.parent / "test", {f"{i}.jpg": jpeg(200 + i) for i in range(30)})
    assert main(["calibrate", "model", "mine", "--test", "test"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    tau = read_config(world.parent / "model").threshold.tau
    found = snojoe.load_detector("model")(sorted((world.parent / "test").iterdir()))
    alarms = sum(each.energy < tau for each in found)
    assert f"calibrated on: {alarms}, {100 * alarms / 30:.1f}% [" in line


def test_too_few_images_change_nothing(world, capsys):
    before = read_config(world.parent / "model")
    assert main(["calibrate", "model", "mine/0*.jpg"]) == 2
    assert "expected at least 19 images to promise that 95% of new ones" in capsys.readouterr().err
    assert read_config(world.parent / "model") == before
    check_model(world.parent / "model")


def test_what_cannot_be_read_is_named_and_the_others_count(world, capsys):
    (world / "07.jpg").write_bytes(b"")
    (world / "notes.txt").write_bytes(b"")
    assert main(["calibrate", "model", "mine"]) == 2
    said = capsys.readouterr().err
    assert "not used: mine/07.jpg: empty" in said
    assert "left out: 1 .txt files (mine/notes.txt)" in said
    assert read_config(world.parent / "model").val.images == 39


def test_models_calibrated_on_the_same_images_decide_together(world, capsys):
    model_folder(world.parent / "second", seed=1)
    for name in ("model", "second"):
        main(["calibrate", name, "mine"])
    both = snojoe.load_detector(["model", "second"])
    assert len(both.decision.calibration) == 40
    main(["calibrate", "second", "mine/0*.jpg", "mine/1*.jpg"])
    with pytest.raises(snojoe.support.errors.SnojoeError, match="expected the same images"):
        snojoe.load_detector(["model", "second"])


def test_a_killed_calibration_leaves_a_folder_that_detects(world, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("snojoe.model.folder.write_sums", killed)
    assert main(["calibrate", "model", "mine"]) == 130
    assert main(["detect", "mine/00.jpg", "--model", "model"]) in (0, 1)
    assert json.loads((world.parent / "model/config.json").read_text())["val"]["images"] == 40
