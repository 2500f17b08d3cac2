"""What a training epoch costs: with the loader, on tensors in memory, and beside a plain loop.

    python benchmarks/training.py [--originals ORIGINALS.tar] [--rounds 5]

On a CPU: ResNet-18 at 64 x 64, batches of 32, one thread, processor time, scenes of the embedded
digits (or the originals given). On a GPU: ResNet-101 at 256 x 256 with as many workers as cores,
bf16, batches of 32 to 256, and also the plain float32 loop of torchvision's reference (contiguous,
unfused Adam, no autocast), the share of the measured peak of bf16 matrix products, and memory.
"""

import argparse
import os
import tarfile
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from timing import machine, print_table, ratio, take_turns
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from snojoe.data.digits import write_digits
from snojoe.data.images import is_image
from snojoe.data.shards import ShardRow, write_shards
from snojoe.model.classifier import build_classifier
from snojoe.model.pixels import normalise
from snojoe.spectral_norm import apply_spectral_norm
from snojoe.training.loader import TrainSet, TrainTransform, train_loader

CLASSES, SN_LAYERS = 20, 9


class Training:
    """A model with its optimiser; `epoch` trains on batches."""

    def __init__(self, arch, device, *, plain=False):
        torch.manual_seed(0)
        self.device, self.plain = device, plain
        self.model = build_classifier(arch, CLASSES).train()
        self.normaliser = None if plain else apply_spectral_norm(self.model, SN_LAYERS)
        layout = torch.contiguous_format if plain else torch.channels_last
        self.model.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-5, fused=not plain)

    def epoch(self, batches):
        bf16 = self.device.type == "cuda" and not self.plain
        for pixels, labels in batches:
            pixels = pixels.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            images = normalise(pixels) if pixels.dtype == torch.uint8 else pixels
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                logits = self.model(images.contiguous() if self.plain else images)
            bce(logits.float(), labels).backward()
            self.optimizer.step()
            if self.normaliser is not None:
                self.normaliser.power_iteration()


def train_set(folder, originals, size, count):
    """A train split of `count` images, repeated where there are fewer."""
    if originals is None:
        write_digits(folder, size=64, train=256, val=7, test=7, ood=3, seed=0)
        archive = folder / "digits.tar"
    else:
        archive = originals
    with tarfile.open(archive) as tar:
        images = [f.read() for m in tar if is_image(m.name) and (f := tar.extractfile(m))]
    rows = (
        ShardRow(str(i), images[i % len(images)], np.zeros(CLASSES, np.uint8)) for i in range(count)
    )
    write_shards(folder / "train", rows, split="train", content="image", image_size=size)
    return TrainSet(folder / "train", TrainTransform(size, (0.5, 2.0), 0.5), seed=0)


def matmul_peak(device):
    """Measured bf16 operations per second of a large matrix product."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    took = take_turns({"matmul": lambda: [a @ a for _ in range(10)]}, 5)["matmul"]
    return 10 * 2 * 8192**3 / median(took)


def operations(arch, size):
    """Floating-point operations of a training step for one image: three forward passes."""
    from torch.utils.flop_counter import FlopCounterMode

    model = build_classifier(arch, CLASSES).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    return 3 * counter.get_total_flops()


def compare(arch, dataset, size, batch, workers, device, rounds):
    """Rows of the table for one batch size."""
    labels = torch.zeros(batch, CLASSES, device=device)
    images = normalise(torch.randint(256, (batch, size, size, 3), dtype=torch.uint8)).to(device)
    memory = [(images, labels)] * (len(dataset) // batch)
    ours = Training(arch, device)
    loader = train_loader(dataset, batch, workers)
    variants = {
        "tensors in memory": lambda: ours.epoch(memory),
        "with the loader": lambda: ours.epoch(loader),
    }
    if device.type == "cuda":
        plain = Training(arch, device, plain=True)
        variants["plain float32 loop"] = lambda: plain.epoch(memory)
        torch.cuda.reset_peak_memory_stats()
        ours.epoch(memory[:2])
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    else:
        peak = ""
    seconds = take_turns(variants, rounds)
    return [
        (
            batch,
            name,
            f"{len(memory) * batch / median(each):,.0f}",
            f"{ratio(seconds, name, 'tensors in memory'):.3f}",
            peak if name == "tensors in memory" else "",
        )
        for name, each in seconds.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--originals", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    batches: tuple[int, ...] = (32,)
    arch, size, workers = "resnet18", 64, 0
    if gpu:
        arch, size, batches = "resnet101", 256, (32, 64, 128, 256)
        workers = os.cpu_count() or 1
    else:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        count = max(256, 8 * max(batches))
        dataset = train_set(Path(scratch), arguments.originals, size, count)
        rows = [
            row
            for batch in batches
            for row in compare(arch, dataset, size, batch, workers, device, arguments.rounds)
        ]
    print(f"{machine()}\n{arch} at {size} x {size}, SN on {SN_LAYERS} layers, ", end="")
    print(f"{count} images, {workers} workers, medians of {arguments.rounds} rounds\n")
    print_table(("batch", "epoch", "images/s", "time by that in memory", "peak memory"), rows)
    if gpu:
        peak = matmul_peak(device)
        for batch, name, speed, *_ in rows:
            rate = float(speed.replace(",", "")) * operations(arch, size)
            print(f"batch {batch}, {name}: {rate / peak:.0%} of {peak / 1e12:.0f} Tflop/s")


if __name__ == "__main__":
    main()
