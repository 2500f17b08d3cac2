"""Time and memory of each step as MS-COCO's order of images is reached: is one linear, one flat?

    python benchmarks/growth.py [--images 5000 20000 80000 160000] [--plot growth.png]

Stand-ins of coco_size.py in MS-COCO's proportions, JPEGs of 330 x 250 and 50 kB; the network is
resnet10 at 32 x 32. 160,000 take 8 GB in the temporary folder (TMPDIR), and what is made of them
4 GB. Each step has a process of its own, on one thread but for preprocess, which decodes on all
cores, and meets files that the page cache does not hold. Time is that of its threads, without
imports; memory the largest sum of RssAnon and RssShmem on top of the imports' (Linux only). A slope
is that of the line through all sizes on log-log axes: 1 is linear.

And, of each size: what the images need that are only decoded and resized, the files
that are only read from the disk, the products that are computed at a large matrix product's rate,
and the arrays that are read once at the memory's, all measured in the same run on one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import coco_size
import numpy as np
import torch
from coco_size import CLASSES, OOD, SPLITS
from full_size import disk, stream
from timing import PeakMemory, machine, print_table
from torch.utils.flop_counter import FlopCounterMode

from snojoe.data.images import decode, to_square
from snojoe.data.prepare import prepare
from snojoe.data.shards import Shards
from snojoe.detectors import PAPER_DETECTORS, fit_detector
from snojoe.detectors.outputs import LinearHead, load_outputs
from snojoe.inference.passes import write_outputs
from snojoe.measures.metrics import aupr, auroc, fpr_at_tpr
from snojoe.model.classifier import build_classifier
from snojoe.model.preprocessing import preprocessing
from snojoe.params import Data
from snojoe.training.loader import TrainSet, TrainTransform, train_loader

PHOTOGRAPH, EDGE, ARCH = (330, 250), 32, "resnet10"
SETS = (*SPLITS, *(f"ood/{name}" for name in OOD))
ALL = sum(SPLITS.values()) + sum(OOD.values())


def preprocess(folder):
    data = Data.model_validate(coco_size.settings() | {"image_size": EDGE})
    prepare(data, lambda source: folder / source.path, folder / "prepared", lambda _: None)


def epoch_input(folder):
    """Crops of an epoch: nothing is computed of them."""
    train = TrainSet(folder / "prepared/train", TrainTransform(EDGE, (0.5, 2.0), 0.5), seed=0)
    for _ in train_loader(train, 32, 0):
        pass


def inference(folder):
    model = build_classifier(ARCH, CLASSES)
    for name in SETS:
        shards = Shards(folder / "prepared" / name)
        write_outputs([model], shards, [folder / "outputs" / name], batch_size=128)


def scoring(folder, detectors):
    train, val, test, *oods = (load_outputs(folder / "outputs" / name) for name in SETS)
    head = LinearHead(np.zeros((CLASSES, train.hidden.shape[1])), np.zeros(CLASSES))
    for detector in detectors:
        fitted = fit_detector(detector.name, train, val, head)
        inside = fitted.score_outputs(test)
        for ood in oods:
            outside = fitted.score_outputs(ood)
            for metric in (fpr_at_tpr, auroc, aupr):
                metric(inside, outside)


def scoring_without_lof(folder):
    scoring(folder, [each for each in PAPER_DETECTORS if each.name != "lof"])


def scoring_lof(folder):
    scoring(folder, [each for each in PAPER_DETECTORS if each.name == "lof"])


STEPS = {
    "preprocess": preprocess,
    "an epoch's input": epoch_input,
    "inference": inference,
    "scoring, LOF apart": scoring_without_lof,
    "scoring, LOF": scoring_lof,
}


def step(name, folder):
    torch.set_num_threads(1)
    with PeakMemory() as memory:
        began, busy = time.perf_counter(), time.process_time()
        STEPS[name](folder)
        took = time.process_time() - busy, time.perf_counter() - began
    print(json.dumps([*took, memory.megabytes - memory.before]))


def forget(folder):
    """Have the page cache let go of a folder's files."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_rate(folder):
    """Bytes per second of the largest archive, read from its start on."""
    forget(folder)
    largest = max(folder.glob("*.tar"), key=lambda path: path.stat().st_size)
    began, length = time.perf_counter(), 0
    with largest.open("rb", buffering=0) as file:
        while length < 2**30 and (chunk := file.read(2**23)):
            length += len(chunk)
    return length / (time.perf_counter() - began)


def memory_rate():
    """Bytes per second that are read to add up a large array."""
    array = np.ones(2**26, np.float32)
    return array.nbytes / _seconds(array.sum)


def product_rate():
    """Operations per second of a large float32 matrix product."""
    a = torch.ones(2048, 2048)
    return 2 * 2048**3 / _seconds(lambda: a @ a)


def decoding_seconds(count=200):
    """Of one image, decoded and resized by one thread."""
    images, made = stream(PHOTOGRAPH), preprocessing(EDGE)
    encoded = [next(images) for _ in range(count)]
    return _seconds(lambda: [to_square(decode(image), made) for image in encoded]) / count


def _seconds(work, rounds=5):
    """Of its processor time the median, once it has been done."""
    work()
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return median(times)


def operations():
    """Of the network for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_classifier(ARCH, CLASSES).eval()(torch.zeros(1, 3, EDGE, EDGE))
    return counter.get_total_flops()


def limits(folder):
    """Rows (step, what limits it, seconds that this alone takes) for what lies in a folder."""
    prepared, outputs = folder / "prepared", folder / "outputs"
    counts = {name: len(load_outputs(outputs / name).logits) for name in SETS}
    images, decoding, from_disk = sum(counts.values()), decoding_seconds(), disk_rate(folder)
    network, product, memory = operations(), product_rate(), memory_rate()
    archives = sum(path.stat().st_size for path in folder.glob("*.tar"))
    print(
        f"disk {from_disk / 1e6:,.0f} MB/s, memory {memory / 1e9:.1f} GB/s, products "
        f"{product / 1e9:.0f} Gflop/s, decoding and resizing {1e3 * decoding:.2f} ms an image; "
        f"one image of {ARCH} {network / 1e9:.3f} Gflop\n"
    )
    return [
        ("preprocess", "decoding and resizing", images * decoding),
        ("preprocess", "disk, reading", archives / from_disk),
        ("an epoch's input", "decoding and resizing", counts["train"] * decoding),
        ("an epoch's input", "disk, reading", disk(prepared / "train") / from_disk),
        ("inference", "matrix products", images * network / product),
        ("inference", "decoding and resizing of train", counts["train"] * decoding),
        ("inference", "disk, reading", disk(prepared) / from_disk),
        ("scoring, LOF apart", "memory, arrays once", disk(outputs) / memory),
    ]


def slope(counts, values):
    if len(counts) == 1:
        return np.nan
    return np.polyfit(np.log(counts), np.log(values), 1)[0]


def plot(path, results, counts):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, column, label in zip(
        axes, (0, 2), ("seconds of CPU", "peak memory, MB"), strict=True
    ):
        for name, values in results.items():
            axis.loglog(
                counts[: len(values)],
                [max(each[column], 1e-3) for each in values],
                "o-",
                label=name,
            )
        axis.set(xlabel="images", ylabel=label)
        axis.set_xticks(counts, labels=[f"{count:,}" for count in counts])
        axis.set_xticks([], minor=True)
        axis.grid(which="both", alpha=0.3)
    first = min(values[0][0] for values in results.values())
    axes[0].plot(counts, [first / 2 * c / counts[0] for c in counts], "k--", label="linear")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def print_results(results, counts, rows):
    print_table(
        ("step", *(f"{n:,}, s" for n in counts), "slope", *(f"{n:,}, MB" for n in counts)),
        [
            (
                name,
                *(f"{seconds:.1f}" for seconds, _, _ in values),
                f"{slope(counts, [seconds for seconds, _, _ in values]):.2f}",
                *(f"{megabytes:,.0f}" for _, _, megabytes in values),
            )
            for name, values in results.items()
        ],
    )
    print()
    print_table(
        (f"step, {counts[-1]:,} images", "s of CPU", "limit", "which alone takes, s", "share"),
        [
            (
                name,
                f"{results[name][-1][0]:.1f}",
                what,
                f"{seconds:.1f}",
                f"{seconds / results[name][-1][0]:.0%}",
            )
            for name, what, seconds in rows
        ],
    )
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 20_000, 80_000, 160_000])
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    counts = sorted(arguments.images)
    torch.set_num_threads(1)
    print(f"{machine()}\n", flush=True)
    results: dict[str, list[list[float]]] = {name: [] for name in STEPS}
    for i, images in enumerate(counts, start=1):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            coco_size.make(folder, images / ALL, PHOTOGRAPH)
            for name in STEPS:
                forget(folder)
                command = [sys.executable, __file__, "--step", name, scratch]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                results[name].append(json.loads(done.stdout.splitlines()[-1]))
            print_results(results, counts[:i], limits(folder))
    if arguments.plot:
        plot(arguments.plot, results, counts)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        step(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
