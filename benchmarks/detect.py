"""Detection: its throughput beside that of the network alone, and its memory over many images.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/detect.py throughput [--arch timm/... --size 224]
    OMP_WAIT_POLICY=PASSIVE python benchmarks/detect.py steps [--arch timm/... --size 224]
    OMP_WAIT_POLICY=PASSIVE python benchmarks/detect.py memory

``throughput``: a network, ResNet-50 at 256 by default, on JPEGs of 500 x 375, from files to
detections, against the same network on pixels that are in memory already, by PyTorch and by ONNX
Runtime (the extra onnx). All take turns, so that other programs disturb them alike. ``steps``: the
processor time of each step between a file and its line of output, on one thread; of each the
fastest of the rounds. ``memory``: resnet10 at 32 on 10,000 JPEGs.
"""

import argparse
import io
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from timing import machine, print_table

from snojoe.data.images import decode, to_square
from snojoe.detect.formats import write_jsonl
from snojoe.detect.image_detector import ImageDetector
from snojoe.detect.onnx_network import under_onnx_runtime
from snojoe.model.classifier import build_classifier
from snojoe.model.decision import Decision
from snojoe.model.preprocessing import preprocessing
from snojoe.support.memory import tune_memory

CLASSES = [f"class{i}" for i in range(20)]
BATCH = 16


def untrained(arch: str, image_size: int) -> ImageDetector:
    torch.manual_seed(0)
    model = build_classifier(arch, len(CLASSES))
    decision = Decision(CLASSES, 10.0, np.full(20, 0.5), np.zeros(100))
    return ImageDetector([model], decision, preprocessing(image_size))


def write_images(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs as large as photographs of their size are: blurred noise."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
        paths.append(folder / f"{i:05d}.jpg")
        noise.filter(ImageFilter.GaussianBlur(0.7)).save(paths[-1], quality=90)
    return paths


def throughput(folder: Path, arch: str, edge: int, rounds: int = 9, batches: int = 2) -> None:
    tune_memory()
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    pytorch = untrained(arch, edge)
    network = under_onnx_runtime(pytorch.models[0], edge, arch, digest="")
    detectors = {
        "PyTorch": pytorch,
        "ONNX Runtime": ImageDetector([network], pytorch.decision, pytorch.preprocessing),
    }
    paths = write_images(folder, batches * BATCH, (500, 375))
    size = np.mean([path.stat().st_size for path in paths]) / 1000
    print(f"{machine()}; {torch.get_num_threads()} threads")
    print(f"{arch} at {edge}, {len(paths)} JPEGs of 500 x 375, {size:.0f} kB each")
    made = preprocessing(edge)
    ready = np.stack([to_square(decode(path), made) for path in paths])
    ready = ready.reshape(-1, BATCH, edge, edge, 3)
    of_each = [detector.logits(ready[0]) for detector in detectors.values()]
    print(f"logits differ by {np.abs(np.subtract(*of_each)).max():.1e} at most, of")
    print(f"a standard deviation of {of_each[0].std():.2g}")
    wall: dict[tuple[str, str], list[float]] = defaultdict(list)
    cpu: dict[tuple[str, str], list[float]] = defaultdict(list)
    turns = list(product(detectors, ("network", "files")))
    for turn in range(rounds):
        for engine, what in turns[:: 1 if turn % 2 else -1]:
            start, start_cpu = time.perf_counter(), time.process_time()
            if what == "network":
                for pixels in ready:
                    detectors[engine].logits(pixels)
            else:
                assert len(list(detectors[engine].stream(paths))) == len(paths)
            wall[engine, what].append(time.perf_counter() - start)
            cpu[engine, what].append(time.process_time() - start_cpu)
    rows = []
    for engine, what in turns:
        each = [engine, what]
        for times in (wall, cpu):
            ratio = np.median(np.divide(times["PyTorch", what], times[engine, what]))
            each += [f"{1e3 * np.median(times[engine, what]) / len(paths):.1f}", f"{ratio:.2f} x"]
        rows.append(each)
    print_table(["engine", "", "wall-clock, ms an image", "", "CPU, ms an image", ""], rows)


def steps(folder: Path, arch: str, edge: int, rounds: int = 5) -> None:
    torch.set_num_threads(1)
    detector, paths = untrained(arch, edge), write_images(folder, BATCH, (500, 375))
    each = [step_by_step(detector, paths, edge) for _ in range(rounds)]
    fastest = {name: min(spent[name] for spent in each) for name in each[0]}
    for name, seconds in fastest.items():
        print(f"| {name} | {1e3 * seconds / BATCH:.2f} | {seconds / sum(fastest.values()):.1%} |")


@torch.inference_mode()
def step_by_step(detector: ImageDetector, paths: list[Path], edge: int) -> dict[str, float]:
    """Seconds of processor time that each step takes for a batch."""
    model, made, decision = detector.models[0], preprocessing(edge), detector.decision
    clock = [time.process_time()]
    images = [decode(path) for path in paths]
    clock.append(time.process_time())
    squares = [to_square(image, made) for image in images]
    clock.append(time.process_time())
    pixels = torch.from_numpy(np.stack(squares))
    clock.append(time.process_time())
    ready = model.normalise(pixels)
    clock.append(time.process_time())
    logits = model(ready)
    clock.append(time.process_time())
    found = decision(logits.numpy()[None])
    clock.append(time.process_time())
    results = zip(map(str, paths), found, strict=True)
    write_jsonl(results, decision, io.StringIO())
    clock.append(time.process_time())
    names = ("read, decode", "resize", "stack", "normalise", "network", "decide", "write a line")
    return dict(zip(names, np.diff(clock), strict=True))


def memory(folder: Path, count: int = 10_000) -> None:
    tune_memory()
    detector = untrained("resnet10", 32)
    (one, *_) = write_images(folder, 1, (320, 240))
    paths = [folder / f"copy{i:05d}.jpg" for i in range(count)]
    for path in paths:
        path.hardlink_to(one)

    def watched() -> Iterator[Path]:
        for i, path in enumerate(paths):
            if i in (1_000, 2_000, 5_000):
                print(f"{i:6,} images: {rss():.0f} MB, peak {peak():.0f} MB")
            yield path

    start = time.perf_counter()
    detected = sum(1 for _ in detector.stream(watched()))
    print(f"{detected:6,} images: {rss():.0f} MB, peak {peak():.0f} MB")
    print(f"{detected / (time.perf_counter() - start):.0f} images/s")


def rss() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return float("nan")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["throughput", "steps", "memory"])
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.what == "memory":
            memory(Path(scratch))
        else:
            measure = throughput if arguments.what == "throughput" else steps
            measure(Path(scratch), arguments.arch, arguments.size)
