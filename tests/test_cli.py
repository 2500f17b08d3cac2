import subprocess
import sys

import pytest

from snojoe.cli import main


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
