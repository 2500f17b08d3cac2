"""The guide to models of one's own does what it says."""

import re
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models as zoo

from snojoe.detectors import DETECTORS

GUIDE = Path(__file__).parents[1] / "docs" / "own-model.md"


def test_the_twenty_lines_run(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 20
    torch.manual_seed(0)
    images = torch.randn(48, 3, 32, 32)
    labels = torch.eye(4, dtype=torch.int64).repeat(12, 1)
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    given = {
        "model": zoo.resnet18(num_classes=4),
        "train": loader,
        "val": loader,
        "new": list(images[:5]),
    }
    monkeypatch.chdir(tmp_path)
    exec(code, given)
    said = capsys.readouterr().out
    assert all(name in said for name in DETECTORS)
    assert (tmp_path / "joint_energy.safetensors").exists()
