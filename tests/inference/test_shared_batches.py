"""Inference by two processes writes what one writes."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from committed import committed
from conftest import jpeg, model_config

from snojoe.data.shards import ShardRow, write_shards
from snojoe.experiment import Folders
from snojoe.inference.tuned import read_tuning
from snojoe.model.classifier import build_classifier
from snojoe.model.folder import save_model

SIDE, SEEDS = 16, (0, 1)

# Between the two, noise of both kinds takes the place of what was tuned: that may have been none.
INFER = """
import json, sys
from pathlib import Path
from snojoe.experiment import Folders
from snojoe.inference import passes
from snojoe.inference.infer import infer_id, infer_ood
from snojoe.inference.tuned import Tuned, write_tuning
from snojoe.params import Params
from snojoe.support.processes import is_first_process

batches, batch_outputs = [], passes._batch_outputs
passes._batch_outputs = lambda *args: batches.append(args) or batch_outputs(*args)
params, folders = Params.model_validate(json.loads(sys.argv[2])), Folders(Path(sys.argv[1]))
infer_id(params, folders, 0)
if is_first_process():
    for seed in params.seeds:
        noise = Tuned(eps=0.01, params={}, fpr95=1.0)
        write_tuning(folders.tuned(0, seed), {"odin": noise, "mahalanobis": noise})
infer_ood(params, folders, 0)
print(f"batches: {len(batches)}")
"""


def experiment(folder):
    """Two models, three splits of more than one batch and an OOD set of three batches."""
    folders = Folders(folder)
    rng = np.random.default_rng(0)
    for name, count in {"train": 9, "val": 8, "test": 5, "textures": 11}.items():
        labels = (
            [None] * count if name == "textures" else np.eye(3, dtype=np.uint8)[np.r_[:count] % 3]
        )
        content = "image" if name == "train" else "pixels"
        pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        images = [jpeg(i) if content == "image" else p.tobytes() for i, p in enumerate(pixels)]
        rows = [ShardRow(f"{name}/{i}", images[i], labels[i]) for i in range(count)]
        write_shards(folders.shards(name), rows, split=name, content=content, image_size=SIDE)
    for seed in SEEDS:
        torch.manual_seed(seed)
        folders.model(0, seed).mkdir(parents=True)
        model = build_classifier("resnet10", 3)
        save_model(model, folders.model(0, seed), model_config("abc"), np.zeros(50))
    return folders


def start(folder, tree, **env):
    command = [sys.executable, "-c", INFER, str(folder), json.dumps(tree)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=os.environ | env, **pipes)


@pytest.mark.parametrize("tune", [True, False])
def test_two_processes_write_the_arrays_of_one_to_the_bit(tmp_path, tune):
    tree = yaml.safe_load(committed("params.yaml"))
    tree["seeds"], tree["infer"] = list(SEEDS), {"batch_size": 4, "threads": 1, "tune": tune}
    tree["data"]["ood"] = {"textures": {"embedded": "textures"}}
    one, two = (experiment(tmp_path / name) for name in ("one", "two"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [start(one.root, tree)]
    processes += [start(two.root, tree, RANK=str(rank), **meeting) for rank in range(2)]
    said = [process.communicate(timeout=600)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    batches = [lines.pop() for lines in said]
    # Six sets to choose a score by have one batch each, which is the first process's.
    assert batches == ["batches: 16", "batches: 12", "batches: 4"]
    assert said[1] == said[0]
    assert said[2] == []  # the first alone speaks
    written = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (one.root / "outputs", two.root / "outputs")
    ]
    assert written[0] == written[1]
    assert np.load(one.outputs(0, 1, "textures") / "odin_logits.npy").shape == (11, 3)
    assert len({*np.load(one.outputs(0, 1, "textures") / "ids.npy")}) == 11
    assert read_tuning(two.tuned(0, 0))["odin"].eps == 0.01
