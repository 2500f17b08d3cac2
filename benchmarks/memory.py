"""Does a training's memory grow with its train split? `python benchmarks/memory.py`.

Images of 100 kB each (grey PGMs, which take next to nothing to decode, so that fetching them counts
for much), 5,000 and 40,000 of them: 4.6 GB in the temporary folder (TMPDIR). One epoch of training
by one process and by two (torchrun, CPU): its steps, BatchNorm's statistics over all images, and
validation; at 8 x 8, which takes the network little time. Printed is the largest sum of RssAnon and
RssShmem that a process had, every 20 ms (Linux only), as the images are stored and, by one process,
with every encoded image held by the process, as it was before. Then the loader's images per second,
none decoded in advance, the ways taking turns; in its first epoch a training meets each page of the
files for the first time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import torch
from timing import PeakMemory, machine, print_table, ratio, take_turns

from snojoe.data.shards import EncodedImages, ShardRow, Shards, write_shards
from snojoe.model.classifier import build_classifier
from snojoe.params import load_params
from snojoe.training import loader
from snojoe.training.loader import TrainSet, TrainTransform, train_loader
from snojoe.training.loop import train_classifier

ROOT = Path(__file__).resolve().parents[1]
EDGE, SIZE, CLASSES, VAL = 316, 8, 7, 128
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


def store(folder, images):
    """`images` in train, and a few in val."""
    rng = np.random.default_rng(0)
    header = f"P5 {EDGE} {EDGE} 255\n".encode()

    def rows(count, length, header=b""):
        for i in range(count):
            labels = rng.integers(0, 2, CLASSES).astype(np.uint8)
            yield ShardRow(str(i), header + rng.bytes(length), labels)

    train, val = rows(images, EDGE**2, header), rows(VAL, 3 * SIZE**2)
    write_shards(folder / "train", train, split="train", content="image", image_size=SIZE)
    write_shards(folder / "val", val, split="val", content="pixels", image_size=SIZE)


def train_set(folder):
    return TrainSet(folder / "train", TrainTransform(SIZE, (0.5, 1.0), 0.5), seed=0)


class Held:
    """As every process held the images before: a copy of the column in memory of its own."""

    def __init__(self, folder):
        column = Shards(folder / "train").table(["image"])["image"]
        chunks = [pa.array(chunk.to_pylist(), pa.binary()) for chunk in column.chunks]
        self._column = pa.chunked_array(chunks)

    def __getitem__(self, index):
        return self._column[index].as_py()


def train(folder, way):
    """Print the peak in MB of this process, as JSON."""
    torch.set_num_threads(1)
    with PeakMemory() as memory:
        dataset = train_set(folder)
        if way == "held":
            dataset.encoded = Held(folder)
        params = load_params(ROOT / "params.yaml")
        train_classifier(
            build_classifier("resnet10", CLASSES),
            dataset,
            Shards(folder / "val"),
            params=params.train.model_copy(update={"epochs": 1}),
            spectral_norm=params.spectral_norm,
            sn_layers=0,
        )
    print(json.dumps([memory.megabytes]), flush=True)


def peaks(folder, way, processes):
    """Peak of each process in MB, and seconds of the whole."""
    launcher = [*TORCHRUN, str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, __file__, "--train", str(folder), way]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line)[0] for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == processes, done.stdout
    return lines, time.perf_counter() - began


def throughput(folder, rounds):
    """Seconds of an epoch's batches, round by round, each way."""
    loader._KEPT_BYTES = 0
    dataset = train_set(folder)
    mapped, held = dataset.encoded, Held(folder)

    def epoch(encoded):
        dataset.encoded = encoded
        for _ in train_loader(dataset, 32, 0):
            pass

    ways = {
        "held": lambda: epoch(held),
        "mapped": lambda: epoch(mapped),
        "mapped, a training's first epoch": lambda: epoch(EncodedImages(mapped.paths)),
    }
    return take_turns(ways, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 40_000])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}\n")
    print("| images | way | processes | peak of each, MB | s |\n|---|---|---|---|---|")
    rates = []
    for i, images in enumerate(arguments.images):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            store(folder, images)
            for way, processes in (("mapped", 1), ("mapped", 2), ("held", 1)):
                each, seconds = peaks(folder, way, processes)
                shown = ", ".join(f"{peak:,.0f}" for peak in each)
                print(f"| {images:,} | {way} | {processes} | {shown} | {seconds:.0f} |", flush=True)
            if i == 0:
                rates = [images, throughput(folder, arguments.rounds)]
    images, seconds = rates
    print(f"\n{images:,} images, {arguments.rounds} rounds\n")
    print_table(
        ("way", "images per second and core, median (each round)", "by held"),
        [
            (
                name,
                f"{images / median(each):,.0f} ({', '.join(f'{images / s:,.0f}' for s in each)})",
                f"{ratio(seconds, 'held', name):.3f} x",
            )
            for name, each in seconds.items()
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
