"""What a GPU does with the training, in ten minutes and one table.

    PYTHONPATH=src python benchmarks/gpu.py FOLDER [--device cpu] [--parts training same-bits]

Needs torch, torchvision, accelerate, Pillow, NumPy, SciPy, scikit-learn, pyarrow, pydantic, PyYAML,
safetensors, defusedxml, tqdm; no DVC, no network, no data: images and weights are made here. Writes
``gpu.json`` and ``gpu.csv`` into FOLDER after each part, and beside them what the parts said.

training       ResNet-101 at 256 x 256 in images/s: PyTorch's plain loop without our code; ours
               without and with SN, on tensors in memory, and with the loader. Each beside the plain
               loop and as a share of a large matrix product's rate, all in the same precision.
spectral-norm  A step without SN, with ours, with torch's parametrization.
side-by-side   Several trainings on one GPU at a time, and one on each GPU if there are several.
same-bits      The same short training by two processes: checksums of their weights.
out-of-memory  A batch that does not fit: what the message names.
shared-batch   Two processes share the statistics of BatchNorm (SyncBatchNorm): as one has them?

A part has a process of its own and a time limit; where it fails or takes too long, the others and
the rows that it had are not lost. On a CPU everything is small and on one thread: that shows that
the script works, and nothing of a GPU.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from timing import clock, machine, print_table, ratio, take_turns
from torch.nn.functional import binary_cross_entropy_with_logits as bce

ROOT = Path(__file__).resolve().parents[1]
CLASSES, SN_LAYERS = 20, 9
SN_RATE = 1e-4  # of Adam, as where a network is fine-tuned
MEMORY = 4 * 2**30  # of a GPU, for the part that is to run out of it


@dataclass(frozen=True)
class Size:
    """How large everything is: network, images, batches; rounds, and seconds of each figure."""

    arch: str
    image: int
    original: tuple[int, int]
    batches: tuple[int, ...]
    product: int
    rounds: int
    seconds: float
    side_by_side: tuple[int, ...]
    too_large: int


SIZES = {
    "cuda": Size("resnet101", 256, (500, 375), (32, 128), 8192, 5, 1.5, (1, 2, 3), 1024),
    "cpu": Size("resnet18", 64, (96, 72), (16,), 1024, 3, 2.0, (1, 2), 1024),
    "smallest": Size("resnet10", 32, (48, 36), (4,), 64, 1, 0.1, (1,), 1024),
}


class Work(NamedTuple):
    """What a part is told: sizes, the folder for what it makes, and the device."""

    size: Size
    folder: Path
    device: torch.device


def row(what: str, value: object, unit: str = "", beside: str = "") -> None:
    """Print a row of the table, for the process that has started this one."""
    print(json.dumps({"what": what, "value": value, "unit": unit, "beside": beside}), flush=True)


def prepared(work: Work, images: int) -> Path:
    """What preprocess would write, of `images` training images; made once for all parts."""
    import numpy as np
    from full_size import stream

    from snojoe.data.shards import ShardRow, write_shards

    target, size = work.folder / f"prepared-{images}", work.size
    if target.exists():
        return target
    made = target.with_name(f"{target.name}-{os.getpid()}")
    photographs, shown = stream(size.original), np.eye(CLASSES, dtype=np.uint8)
    train = (ShardRow(f"train/{i}", next(photographs), shown[i % CLASSES]) for i in range(images))
    black = bytes(size.image**2 * 3)
    val = (ShardRow(f"val/{i}", black, shown[i % CLASSES]) for i in range(2 * CLASSES))
    write_shards(made / "train", train, split="train", content="image", image_size=size.image)
    write_shards(made / "val", val, split="val", content="pixels", image_size=size.image)
    (made / "classes.json").write_text(json.dumps([f"class {i}" for i in range(CLASSES)]))
    (made / "weights").mkdir()
    made.rename(target)
    return target


def settings(work: Work, batch_size: int, workers: int = 0) -> Any:
    from snojoe.params import load_params

    params = load_params(ROOT / "params.yaml")
    changed: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "epochs": 1}
    changed |= {"lr": 1e-4, "schedule": "constant", "freeze_after_epoch": None}
    return params.model_copy(
        update={
            "train": params.train.model_copy(update=changed),
            "model": params.model.model_copy(update={"arch": work.size.arch, "weights": None}),
            "data": params.data.model_copy(update={"image_size": work.size.image}),
        }
    )


class OurLoop:
    """Steps of the package's training loop, on its loader or on one batch in memory."""

    def __init__(self, work, batch_size, sn_layers, *, images=256, workers=0):
        from snojoe.model.classifier import build_classifier
        from snojoe.spectral_norm import apply_spectral_norm
        from snojoe.training.loader import TrainSet, TrainTransform
        from snojoe.training.loop import _Training
        from snojoe.training.processes import start_accelerator

        torch.manual_seed(0)
        size, data = work.size, prepared(work, images)
        model = build_classifier(size.arch, CLASSES)
        normaliser = apply_spectral_norm(model, sn_layers)
        train = TrainSet(data / "train", TrainTransform(size.image, (0.5, 2.0), 0.5), seed=0)
        params = settings(work, batch_size, workers).train
        self.training: Any = _Training(model, train, None, params, normaliser, start_accelerator())
        self.training._wrap()
        crops, labels = zip(*(train[i % images] for i in range(batch_size)), strict=True)
        self.batch = tuple(torch.stack(each).to(work.device) for each in (crops, labels))
        self.images = len(self.training.loader) * batch_size

    def on_loader(self):
        self.training._train_epoch(0)

    def in_memory(self, steps):
        loader, self.training.loader = self.training.loader, [self.batch] * steps
        self.training._train_epoch(0)
        self.training.loader = loader


class PlainLoop:
    """PyTorch alone: torchvision's network, fused Adam, autocast, channels-last."""

    def __init__(self, work, batch_size, precision):
        from torchvision import models

        torch.manual_seed(0)
        size = work.size
        if size.arch == "resnet10":  # not one of torchvision's
            network = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)
        else:
            network = models.get_model(size.arch, num_classes=CLASSES)
        self.network = network.to(work.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, fused=True)
        images = torch.randn(batch_size, 3, size.image, size.image, device=work.device)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.randint(2, (batch_size, CLASSES), device=work.device).float()
        self.device, self.precision = work.device, precision

    def in_memory(self, steps):
        mixed = self.precision != torch.float32
        for _ in range(steps):
            with torch.autocast(self.device.type, self.precision, enabled=mixed):
                logits = self.network(self.images)
            self.optimizer.zero_grad()
            bce(logits.float(), self.labels).backward()
            self.optimizer.step()


def training(work: Work) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from snojoe.model.classifier import build_classifier
    from snojoe.training.processes import _has_bf16

    size = work.size
    precision = torch.bfloat16 if _has_bf16() else torch.float32
    name = str(precision).removeprefix("torch.")
    peak = product_rate(work, precision)
    row(f"product of {size.product} x {size.product} matrices, {name}", peak / 1e12, "Tflop/s")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_classifier(size.arch, CLASSES).eval()(torch.zeros(1, 3, size.image, size.image))
    operations = 3 * counter.get_total_flops()  # backward is two more

    def show(what, rate, plain=None):
        beside = [f"{rate / plain:.2f} of plain"] if plain else []
        beside.append(f"{rate * operations / peak:.0%} of the product's rate")
        row(what, rate, "images/s", ", ".join(beside))

    workers = min(16, (os.cpu_count() or 1)) if work.device.type == "cuda" else 0
    for batch_size in size.batches:
        plain = PlainLoop(work, batch_size, precision)
        plain.in_memory(3)
        began = clock()
        plain.in_memory(2)
        steps = max(1, round(2 * size.seconds / (clock() - began)))
        loops: dict[str, PlainLoop | OurLoop] = {
            "plain loop": plain,
            "ours without SN": OurLoop(work, batch_size, 0),
            "ours with SN": OurLoop(work, batch_size, SN_LAYERS),
        }
        variants = {each: partial(loop.in_memory, steps) for each, loop in loops.items()}
        seconds = take_turns(variants, size.rounds)
        of_plain = steps * batch_size / median(seconds["plain loop"])
        for each in variants:
            rate = steps * batch_size / median(seconds[each])
            by_plain = ratio(seconds, "plain loop", each)  # of the same rounds
            what = f"{each}, batch {batch_size}"
            show(what, rate, rate / by_plain if each != "plain loop" else None)
        if work.device.type == "cuda":
            gigabytes = torch.cuda.max_memory_allocated() / 2**30
            row(f"memory of these three, batch {batch_size}", gigabytes, "GiB")
        del loops, variants, plain
        images = steps * batch_size
        loop = OurLoop(work, batch_size, SN_LAYERS, images=images, workers=workers)
        seconds = take_turns({"loader": loop.on_loader}, min(size.rounds, 2))
        rate = loop.images / median(seconds["loader"])
        show(f"ours with SN and the loader ({workers} workers), batch {batch_size}", rate, of_plain)


def product_rate(work: Work, precision: torch.dtype) -> float:
    """Operations per second of a large matrix product, the best of some."""
    n = work.size.product
    a = torch.randn(n, n, device=work.device, dtype=precision)
    seconds = take_turns({"product": lambda: [a @ a for _ in range(5)]}, 5)["product"]
    return 5 * 2 * n**3 / max(min(seconds), 1e-9)


def spectral_norm(work: Work) -> None:
    import copy

    from spectral_norm import Training, measure, with_torchs

    from snojoe.model.classifier import build_classifier
    from snojoe.spectral_norm import apply_spectral_norm

    size = work.size
    batch_size = size.batches[0]
    images = torch.randn(batch_size, 3, size.image, size.image, device=work.device)
    labels = torch.randint(2, (batch_size, CLASSES), device=work.device).float()
    plain = build_classifier(size.arch, CLASSES).to(work.device)
    ours, torchs = copy.deepcopy(plain), with_torchs(copy.deepcopy(plain))
    steps = {
        "without SN": Training(plain, images, labels, SN_RATE),
        "with torch's": Training(torchs, images, labels, SN_RATE),
        "with ours": Training(ours, images, labels, SN_RATE, apply_spectral_norm(ours, SN_LAYERS)),
    }
    seconds = measure(steps, 4 * size.rounds, clock, work.device)
    cost = {
        name: median(a - b for a, b in zip(each, seconds["without SN"], strict=True))
        for name, each in seconds.items()
    }
    by_torchs = cost["with ours"] / cost["with torch's"]
    for name, each in seconds.items():
        share = f"SN is {cost[name] / median(each):.0%} of it" if name != "without SN" else ""
        share += f", {by_torchs:.2f} of torch's" if name == "with ours" else ""
        row(f"a step {name}, batch {batch_size}", 1e3 * median(each), "ms", share)


def side_by_side(work: Work) -> None:
    one = together(work, 1, 1)
    row("one training", one, "images/s")
    for count in work.size.side_by_side[1:]:
        rate = together(work, count, 1)
        row(f"{count} trainings on one device", rate, "images/s", f"{rate / one:.2f} of one")
    gpus = torch.cuda.device_count() if work.device.type == "cuda" else 0
    if gpus > 1:
        rate = together(work, gpus, gpus)
        row(f"one on each of {gpus} GPUs", rate, "images/s", f"{rate / one:.2f} of one")
    else:
        row("one on each GPU", "not run", "", f"{gpus} GPUs")


def together(work: Work, count: int, gpus: int) -> float:
    """Images per second of all trainings, which begin together once all are ready."""
    prepared(work, 256)
    with tempfile.TemporaryDirectory() as scratch:
        begin = Path(scratch) / "begin"
        gpu = work.device.type == "cuda"
        processes = [
            piped(
                work,
                "one-of-several",
                *(str(begin), str(i)),
                **({"CUDA_VISIBLE_DEVICES": str(i % gpus)} if gpu else {}),
            )
            for i in range(count)
        ]
        while len([*Path(scratch).glob("ready*")]) < count:
            if any(process.poll() is not None for process in processes):
                break
            time.sleep(0.05)
        begin.touch()
        return sum(float(last_line_of(process)) for process in processes)


def one_of_several(work: Work, begin: str, number: str) -> None:
    batch_size = work.size.batches[0]
    loop = OurLoop(work, batch_size, SN_LAYERS)
    loop.in_memory(3)
    clock()  # waits for the GPU
    Path(begin).with_name(f"ready{number}").touch()
    while not Path(begin).exists():
        time.sleep(0.01)
    began, steps = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < 5 * work.size.seconds or not steps:
        loop.in_memory(4)
        steps += 4
    if work.device.type == "cuda":
        torch.cuda.synchronize()
    passed = time.perf_counter() - began
    print(steps * batch_size / passed)


def same_bits(work: Work) -> None:
    prepared(work, 256)
    asked = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    a, b = (last_line_of(piped(work, "one-training", **asked))[:16] for _ in range(2))
    row("the same training twice", "the same bits" if a == b else "OTHER BITS", "", f"{a}, {b}")


def one_training(work: Work) -> None:
    train(work, batch_size=work.size.batches[0], images=256, target=work.folder / str(os.getpid()))


def train(work: Work, batch_size: int, images: int, target: Path) -> None:
    """Run a training as the stage does; print the checksum of its weights."""
    from snojoe.experiment import Folders
    from snojoe.training.run import train_model

    target.mkdir()
    data = prepared(work, images)
    (target / "data").mkdir()
    (target / "data/prepared").symlink_to(data)
    (target / "data/weights").symlink_to(data / "weights")
    folders = Folders(target)
    train_model(settings(work, batch_size), SN_LAYERS, 0, folders, target / "checkpoints")
    weights = folders.model(SN_LAYERS, 0) / "model.safetensors"
    print(hashlib.sha256(weights.read_bytes()).hexdigest())


def out_of_memory(work: Work) -> None:
    from snojoe.support.errors import SnojoeError

    too_large = work.size.too_large
    prepared(work, too_large)
    if work.device.type == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, MEMORY / total))
    else:
        import snojoe.training.run  # noqa: F401 - more than is left would hold

        in_use = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**28, in_use + 2**28))
    try:
        train(work, batch_size=too_large, images=too_large, target=work.folder / str(os.getpid()))
    except SnojoeError as error:
        named = "named" if "train.batch_size" in str(error) else "NOT NAMED"
        row(f"a batch of {too_large}: what to lower is", named, "", str(error))
    else:
        row(f"a batch of {too_large}", "fits", "", "the message was not seen")


def shared_batch(work: Work) -> None:
    gpus = torch.cuda.device_count() if work.device.type == "cuda" else 0
    backend = "nccl" if gpus > 1 else "gloo"  # which refuses two processes on one GPU
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [piped(work, "one-of-two", backend, RANK=str(rank), **meeting) for rank in (0, 1)]
    off = max(float(last_line_of(process)) for process in processes)
    right = "as one has them" if off < 1e-3 else "OTHER THAN ONE HAS THEM"
    where = f"{backend}, {max(gpus, 1)} GPUs, largest difference {off:.1e}"
    row("statistics and outputs of two processes", right, "", where)


def one_of_two(work: Work, backend: str) -> None:
    """Print by how much outputs, gradients and statistics differ from those of one process."""
    import copy

    from torch import distributed

    from snojoe.model.classifier import build_classifier
    from snojoe.training.batch_norm import share_batch_norm

    rank, device = int(os.environ["RANK"]), work.device
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    distributed.init_process_group(backend)
    torch.manual_seed(0)
    alone = build_classifier("resnet10", CLASSES).to(device).double().train()
    shared = copy.deepcopy(alone)
    share_batch_norm(shared)
    images = torch.randn(8, 3, 32, 32, device=device, dtype=torch.float64)
    own = images[rank::2].clone().requires_grad_()
    every = images.clone().requires_grad_()
    outputs, expected = shared(own), alone(every)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    pairs = [(outputs, expected[rank::2]), *zip(shared.buffers(), alone.buffers(), strict=True)]
    assert own.grad is not None
    assert every.grad is not None
    pairs.append((own.grad, every.grad[rank::2]))
    off = max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-9)) for a, b in pairs)
    distributed.destroy_process_group()
    print(off)


class Part(NamedTuple):
    """What a part does, and the seconds that it may take."""

    work: Callable[..., None]
    limit: float


PARTS = {
    "training": Part(training, 210),
    "spectral-norm": Part(spectral_norm, 90),
    "side-by-side": Part(side_by_side, 130),
    "same-bits": Part(same_bits, 70),
    "out-of-memory": Part(out_of_memory, 50),
    "shared-batch": Part(shared_batch, 40),
}
INNER: dict[str, Callable[..., None]] = {
    "one-of-several": one_of_several,
    "one-training": one_training,
    "one-of-two": one_of_two,
}


def child(work: Work, name: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """What starts a process for a part, or for what a part starts."""
    size = next(name for name, size in SIZES.items() if size == work.size)
    options = ["--device", work.device.type, "--size", size, "--run", name, *arguments]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if work.device.type == "cpu" else {}
    return {
        "args": [sys.executable, __file__, str(work.folder), *options],
        "env": os.environ | hidden | environment,
    }


def piped(work: Work, name: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = child(work, name, *arguments, **environment)
    return subprocess.Popen(**command, stdout=subprocess.PIPE, text=True)


def last_line_of(process: subprocess.Popen[str]) -> str:
    lines = process.communicate()[0].splitlines()
    if process.returncode or not lines:
        raise RuntimeError("a process of this part failed")
    return lines[-1]


def run_part(name: str, work: Work, target: Path, limit: float) -> list[dict[str, object]]:
    """The rows of a part: those that it has printed, and one that says why there are no more."""
    output, errors = target / f"{name}.out", target / f"{name}.err"
    with output.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(
            **child(work, name), stdout=out, stderr=err, start_new_session=True
        )
        why = ""
        try:
            if process.wait(limit):
                why = reason(errors)
        except subprocess.TimeoutExpired:
            why = f"stopped after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # whatever it has started, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    rows = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
    if why:
        rows.append({"what": "the rest", "value": "not run", "unit": "", "beside": why})
    return [{"part": name, **each} for each in rows]


def reason(errors: Path) -> str:
    """The first error that a part wrote: what follows is mostly of processes that waited for it."""
    lines = errors.read_text(errors="replace").splitlines()
    found = (re.match(r"(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception)\b.*)", line) for line in lines)
    raised = [match[1] for match in found if match]
    return (raised or [f"see {errors.name}"])[0][:300]


def write(target: Path, header: str, rows: list[dict[str, object]]) -> None:
    (target / "gpu.json").write_text(json.dumps({"machine": header, "rows": rows}, indent=2) + "\n")
    with (target / "gpu.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["part", "what", "value", "unit", "beside"])
        writer.writeheader()
        writer.writerows(rows)


def shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=["cuda", "cpu"])
    parser.add_argument("--size", choices=SIZES, help="of everything; by default the device's")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--limit", type=float, help="seconds that each part may take at most")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    size = SIZES[options.size or device.type]
    if device.type == "cpu":
        torch.set_num_threads(1)
    if options.run:
        name, *arguments = options.run
        does = INNER[name] if name in INNER else PARTS[name].work
        does(Work(size, options.folder, device), *arguments)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    header = f"{machine()}, {torch.cuda.device_count()} GPUs, run on {device.type}"
    print(f"{header}\n", flush=True)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(size, Path(scratch), device)
        for name in options.parts:
            began = time.perf_counter()
            limit = min(PARTS[name].limit, options.limit or PARTS[name].limit)
            rows += run_part(name, work, options.folder, limit)
            write(options.folder, header, rows)
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print_table(
        ("part", "what", "value", "unit", "beside"),
        [[shown(each[column]) for column in each] for each in rows],
    )


if __name__ == "__main__":
    main()
