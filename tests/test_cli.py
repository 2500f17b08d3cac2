import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from committed import committed
from conftest import jpeg, model_folder, write_folder

from snojoe.cli import main

ROOT = Path(__file__).parents[1]


def test_layers_prints_index_name_and_number_of_normalised_weights(capsys):
    assert main(["layers", "resnet18"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[0] == ["0", "(none)", "0"]
    assert rows[8] == ["8", "layer4", "5", "20"]
    assert rows[9] == ["9", "avgpool", "0", "20"]
    assert rows[10] == ["10", "head", "2", "22"]


def test_an_unknown_architecture_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["layers", "vgg16"])
    assert "invalid choice: 'vgg16'" in capsys.readouterr().err


def test_help_needs_no_torch():
    code = "import sys, snojoe.cli; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_data_check_succeeds_where_nothing_has_to_be_brought(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["data-check", "params.yaml"]) == 0
    assert "made here" in capsys.readouterr().out


def test_data_check_fails_where_an_archive_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").symlink_to(ROOT / "params")
    assert main(["data-check", "params/paper.yaml"]) == 1
    assert "archives/VOC2012test.tar              MISSING" in capsys.readouterr().out


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder of noise, of which the untrained model accepts the first few."""
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")
    return write_folder(tmp_path / "images", {f"{seed}.jpg": jpeg(seed) for seed in range(5)})


@pytest.mark.parametrize("tau", [-1.0, 1e9])
def test_the_exit_status_of_detect_says_whether_all_are_in_distribution(
    images, capsys, monkeypatch, tau
):
    monkeypatch.setattr("snojoe.model.decision.calibrated_threshold", lambda *_: tau)
    assert main(["detect", "images", "--model", "model"]) == (0 if tau < 0 else 1)
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].startswith("images/0.jpg  " + ("in" if tau < 0 else "OUT"))
    assert "accepts 95.1% of new images like the 40 of val that it is calibrated on" in captured.err
    assert captured.err.endswith(
        "5 images: 5 " + ("in" if tau < 0 else "out-of") + "-distribution\n"
    )


def test_an_image_that_cannot_be_read_is_reported_and_the_others_are_unharmed(images, capsys):
    (images / "2.jpg").write_bytes(b"")
    assert main(["detect", "images", "gone.jpg", "--model", "model", "--format", "jsonl"]) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [*(f"images/{i}.jpg" for i in range(5)), "gone.jpg"]
    assert [line["error"] for line in lines] == [None, None, "empty", None, None, "no such file"]


def test_what_a_folder_holds_besides_images_is_said(images, capsys):
    write_folder(images, {"IMG_1.NEF": b"x", "notes.txt": b"", "film.mov": b"", "b.mov": b""})
    assert main(["detect", "images", "--model", "model"]) == 2
    captured = capsys.readouterr()
    assert "images/IMG_1.NEF  error     not an image of a known format" in captured.out
    assert "left out: 2 .mov files (images/b.mov), 1 .txt files (images/notes.txt)" in captured.err


def test_a_higher_acceptance_accepts_more(images, capsys):
    taus = []
    for accept in ("0.5", "0.99"):
        main(
            ["detect", "images/0.jpg", "--model", "model", "--format", "jsonl", "--accept", accept]
        )
        taus.append(json.loads(capsys.readouterr().out)["tau"])
    assert taus[0] > taus[1]


def test_all_seeds_of_the_main_depth_are_the_default(images, capsys):
    assert main(["detect", "images"]) == 2
    assert "no params.yaml here: expected --model DIR" in capsys.readouterr().err
    (images.parent / "params.yaml").write_text(committed("params.yaml"))
    assert main(["detect", "images"]) == 2
    assert "models/sn9/seed0: no model yet" in capsys.readouterr().err
    for seed in range(2):
        model_folder(images.parent / f"models/sn9/seed{seed}", seed)
    assert main(["detect", "images"]) == 2
    assert "models/sn9/seed2: no model yet" in capsys.readouterr().err
    for seed in (2, 3):  # of the default's seeds, and not
        model_folder(images.parent / f"models/sn9/seed{seed}", seed)
    assert main(["detect", "images"]) in (0, 1)
    assert "3 models" in capsys.readouterr().err


@pytest.mark.parametrize("accept", ["95", "0", "nan", "x"])
def test_an_acceptance_that_is_no_share_is_refused(capsys, accept):
    with pytest.raises(SystemExit, match="2"):
        main(["detect", "a.jpg", "--accept", accept])
    assert "expected a share in (0, 1], such as 0.95" in capsys.readouterr().err


def test_a_folder_that_is_no_model_is_refused_before_torch_is_imported(tmp_path):
    code = (
        "import sys; from snojoe.cli import main; "
        "print(main(['detect', 'a.jpg', '--model', 'gone']), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.stdout == "2 False\n"
    assert done.stderr == "error: gone: not a model directory: it has no config.json\n"


def test_names_that_are_not_utf8_and_a_reader_that_leaves_early_are_no_errors(images):
    name = b"images/caf\xe9.jpg"
    Path(os.fsdecode(name)).write_bytes(jpeg())
    command = "from snojoe.cli import main; raise SystemExit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "detect", "-", "--model", "model", "--format", "csv"],
        cwd=images.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(name + b"\n" + b"images\n" * 2000)
    process.stdin.close()
    assert process.stdout.readline().startswith(b"image,error,")
    assert process.stdout.readline().startswith(name + b",")
    process.stdout.close()
    assert process.wait(60) == 141
    assert b"Traceback" not in process.stderr.read()
