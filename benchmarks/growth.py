"""Time and memory of each step at 1, 4 and 16 times the data, on log-log axes.

    python benchmarks/growth.py [--images 300] [--plot docs/performance/growth.png]

Scenes of the embedded digits: so many in each of train, val and test and in each OOD set. Each
step runs in its own process on one thread; its time is processor time without imports, its memory
the peak less what the imports took (Linux only). A slope, from 4 to 16 times, of 1 is linear.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from timing import machine, print_table

from snojoe.data.digits import write_digits
from snojoe.data.fetch import locate
from snojoe.data.prepare import prepare
from snojoe.data.shards import Shards
from snojoe.detectors import PAPER_DETECTORS, fit_detector
from snojoe.detectors.outputs import LinearHead, load_outputs
from snojoe.inference.passes import write_outputs
from snojoe.measures.metrics import aupr, auroc, fpr_at_tpr
from snojoe.model.classifier import build_classifier
from snojoe.params import load_params
from snojoe.training.loader import TrainSet, TrainTransform
from snojoe.training.loop import train_classifier

ROOT = Path(__file__).resolve().parents[1]
SCALES = (1, 4, 16)
SETS = ("train", "val", "test", "ood/novel_digits", "ood/textures")
CLASSES = 7


def preprocess(folder, params):
    prepare(params.data, lambda source: locate(source, folder, folder), folder / "prepared")


def epoch(folder, params):
    train_classifier(
        build_classifier(params.model.arch, CLASSES),
        TrainSet(folder / "prepared/train", TrainTransform(32, (0.85, 1.0), 0.0), seed=0),
        Shards(folder / "prepared/val"),
        params=params.train.model_copy(update={"epochs": 1}),
        spectral_norm=params.spectral_norm,
        sn_layers=0,
    )


def inference(folder, params):
    model = build_classifier(params.model.arch, CLASSES)
    for name in SETS:
        shards = Shards(folder / "prepared" / name)
        write_outputs([model], shards, [folder / "outputs" / name], batch_size=128)


def scoring(folder, params, detectors):
    train, val, test, *oods = (load_outputs(folder / "outputs" / name) for name in SETS)
    head = LinearHead(np.zeros((CLASSES, train.hidden.shape[1])), np.zeros(CLASSES))
    for detector in detectors:
        fitted = fit_detector(detector.name, train, val, head)
        inside = fitted.score_outputs(test)
        for ood in oods:
            outside = fitted.score_outputs(ood)
            for metric in (fpr_at_tpr, auroc, aupr):
                metric(inside, outside)


def scoring_without_lof(folder, params):
    scoring(folder, params, [each for each in PAPER_DETECTORS if each.name != "lof"])


def scoring_lof(folder, params):
    scoring(folder, params, [each for each in PAPER_DETECTORS if each.name == "lof"])


STEPS = {
    "preprocess": preprocess,
    "one epoch": epoch,
    "inference": inference,
    "scoring, LOF apart": scoring_without_lof,
    "scoring, LOF": scoring_lof,
}


def step(name, folder):
    torch.set_num_threads(1)
    params = load_params(ROOT / "params.yaml")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the peak, starts anew
    before, began = memory("VmRSS"), time.process_time()
    STEPS[name](folder, params)
    print(json.dumps([time.process_time() - began, memory("VmHWM") - before]))


def memory(name):
    (line,) = re.findall(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(line) / 1024


def slope(values):
    """Of the last step, where what does not grow weighs least."""
    return np.log(values[-1] / values[-2]) / np.log(SCALES[-1] / SCALES[-2])


def plot(path, results, images):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    counts = [images * scale for scale in SCALES]
    for axis, column, label in zip(axes, (0, 1), ("seconds", "peak memory, MB"), strict=True):
        for name, values in results.items():
            axis.loglog(counts, [max(each[column], 1e-3) for each in values], "o-", label=name)
        axis.set(xlabel="images in each set", ylabel=label)
        axis.set_xticks(counts, labels=[f"{count:,}" for count in counts])
        axis.set_xticks([], minor=True)
        axis.grid(which="both", alpha=0.3)
    first = min(values[0][0] for values in results.values())
    axes[0].plot(counts, [first / 2 * s for s in SCALES], "k--", label="linear")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    results: dict[str, list[list[float]]] = {name: [] for name in STEPS}
    for scale in SCALES:
        n = arguments.images * scale
        with tempfile.TemporaryDirectory() as scratch:
            write_digits(Path(scratch), train=n, val=n, test=n, ood=n, size=64, seed=0)
            for name in STEPS:
                command = [sys.executable, __file__, "--step", name, scratch]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                results[name].append(json.loads(done.stdout.splitlines()[-1]))
    torch.set_num_threads(1)
    print(f"{machine()}\n{arguments.images} images in each of {len(SETS)} sets, x 1, 4, 16\n")
    print_table(
        ("step", *(f"{s} x, s" for s in SCALES), "slope", *(f"{s} x, MB" for s in SCALES)),
        [
            (
                name,
                *(f"{seconds:.2f}" for seconds, _ in values),
                f"{slope([seconds for seconds, _ in values]):.2f}",
                *(f"{megabytes:.0f}" for _, megabytes in values),
            )
            for name, values in results.items()
        ],
    )
    if arguments.plot:
        plot(arguments.plot, results, arguments.images)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        step(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
