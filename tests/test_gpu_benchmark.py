import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

ROW = {"what": "a product", "value": 1.5, "unit": "Tflop/s", "beside": ""}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("", None),
        ("import time; time.sleep(60)", "stopped after 1 s"),
        ("raise ValueError('no such thing')", "ValueError: no such thing"),
        ("import os; os._exit(3)", "see training.err"),
    ],
)
def test_a_part_that_fails_keeps_the_rows_that_it_had(gpu, tmp_path, monkeypatch, then, why):
    code = f"print({json.dumps(ROW)!r}, flush=True)\n{then}"
    monkeypatch.setattr(gpu, "child", lambda *_: {"args": [sys.executable, "-c", code]})
    rows = gpu.run_part("training", None, tmp_path, 1)
    assert rows[0] == {"part": "training"} | ROW
    assert [row["beside"] for row in rows[1:]] == ([why] if why else [])


@pytest.mark.slow
def test_the_whole_runs_on_a_cpu(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), str(tmp_path)]
    command += ["--device", "cpu", "--size", "smallest"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    with (tmp_path / "gpu.csv").open() as file:
        assert len([*csv.DictReader(file)]) == len(rows)
    value = {row["what"]: row["value"] for row in rows}
    assert value["the same training twice"] == "the same bits"
    assert value["a batch of 1024: what to lower is"] == "named"
    assert all(value[f"{loop}, batch 4"] > 0 for loop in ("plain loop", "ours with SN"))
    failed = [row for row in rows if row["what"] == "the rest"]
    assert [row["part"] for row in failed] == ["shared-batch"]  # PyTorch has it for GPUs alone
    assert "SyncBatchNorm expected input tensor to be on GPU" in failed[0]["beside"]
    assert done.stdout.count("\n| ") == len(rows) + 2
