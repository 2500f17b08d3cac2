"""Preprocessing and input at MS-COCO's counts: `python benchmarks/coco_size.py [--share 0.1]`.

Stand-ins in a temporary folder (TMPDIR): a table with 80 classes beside JPEGs of 640 x 480 and
175 kB, 82,783 train, 40,504 val and 40,775 test images, and two OOD sets of 18,835 and 5,640, or
that share of each. In full they would take 33 GB, and what is made of them 35 GB more. Each step
has a process of its own, on one thread but for preprocess, which decodes on all cores; its memory
is the largest sum of RssAnon and RssShmem, on top of the imports' (Linux only).
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from full_size import disk, stream, write_tar
from timing import PeakMemory, machine, print_table

from snojoe.data.prepare import prepare
from snojoe.data.shards import Shards
from snojoe.model.pixels import normalise
from snojoe.params import Data, load_params
from snojoe.support.text import human_size
from snojoe.training.loader import TrainSet, TrainTransform, train_loader

ROOT = Path(__file__).resolve().parents[1]
SIZE, CLASSES = 256, 80
SPLITS = {"train": 82_783, "val": 40_504, "test": 40_775}
OOD = {"imagenet22k": 18_835, "texture": 5_640}


def make(folder, share, size=(640, 480)):
    """The archives; an image has 2.9 labels in the mean, and one at least."""
    images, rng = stream(size), np.random.default_rng(0)
    names = np.array([f"class {i:02d}" for i in range(CLASSES)])
    rows = ["file,labels,split"]
    files = []
    for split, count in SPLITS.items():
        for i in range(round(share * count)):
            shown = rng.random(CLASSES) < 1.9 / (CLASSES - 1)
            shown[i % CLASSES] = True
            files.append(f"{split}/{i:012d}.jpg")
            rows.append(f"{files[-1]},{';'.join(names[shown])},{split}")
    table = [("labels.csv", "\n".join(rows).encode())]
    write_tar(folder / "coco.tar", itertools.chain(table, ((name, next(images)) for name in files)))
    for name, count in OOD.items():
        write_tar(
            folder / f"{name}.tar",
            ((f"{name}/{i:06d}.jpg", next(images)) for i in range(round(share * count))),
        )


def settings():
    return load_params(ROOT / "params.yaml").data.model_dump() | {
        "id": [{"path": "coco.tar"}],
        "ood": {name: {"path": f"{name}.tar"} for name in OOD},
        "splits": {split: [f"coco/{split}"] for split in SPLITS},
        "image_size": SIZE,
    }


def preprocess(folder):
    data = Data.model_validate(settings())
    prepare(data, lambda source: folder / source.path, folder / "prepared", lambda _: None)
    return sum(map(len, all_shards(folder)))


def epoch_input(folder):
    """Crops of an epoch: nothing is computed of them."""
    train = TrainSet(folder / "prepared/train", TrainTransform(SIZE, (0.5, 2.0), 0.5), seed=0)
    return sum(len(normalise(pixels)) for pixels, _ in train_loader(train, 32, 0))


def inference_input(folder):
    return sum(
        len(normalise(torch.from_numpy(batch.pixels)))
        for shards in all_shards(folder)
        for batch in shards.batches(128)
    )


def all_shards(folder):
    names = [*SPLITS, *(f"ood/{name}" for name in OOD)]
    return [Shards(folder / "prepared" / name) for name in names]


STEPS = {
    "preprocess": preprocess,
    "one epoch's input": epoch_input,
    "inference's input": inference_input,
}


def step(name, folder):
    torch.set_num_threads(1)
    with PeakMemory() as memory:
        began, busy = time.perf_counter(), time.process_time()
        images = STEPS[name](folder)
        took = time.perf_counter() - began, time.process_time() - busy
    print(json.dumps([images, *took, memory.megabytes - memory.before]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.1)
    share = parser.parse_args().share
    print(f"{machine()}\n{share:.0%} of the images\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, share)
        rows = []
        for name in STEPS:
            command = [sys.executable, __file__, "--step", name, scratch]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            images, seconds, busy, peak = json.loads(done.stdout.splitlines()[-1])
            rows.append((name, f"{images:,}", f"{seconds:.0f}", f"{busy:.0f}", f"{peak:,.0f}"))
        print_table(("step", "images", "s", "s of CPU", "peak memory, MB"), rows)
        archives = sum(path.stat().st_size for path in folder.glob("*.tar"))
        stored = {
            name: disk(folder / "prepared" / name) for name in ("train", "val", "test", "ood")
        }
        print_table(
            ("archives", *(f"prepared/{name}" for name in stored)),
            [(human_size(archives), *map(human_size, stored.values()))],
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        step(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
