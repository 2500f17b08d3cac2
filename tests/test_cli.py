import subprocess
import sys
from pathlib import Path

import pytest

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
