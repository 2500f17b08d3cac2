"""What the benchmarks share: variants that take turns, a table of medians, and the machine."""

import os
import platform
import random
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import torch


def clock():
    """Processor time where one thread works, which other programs disturb least; else the time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def take_turns(variants, rounds):
    """Seconds of each round by variant, in another order each time; a first round is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name in random.sample(list(variants), len(variants)):
            began = clock()
            variants[name]()
            seconds[name].append(clock() - began)
    return {name: values[1:] for name, values in seconds.items()}


def ratio(seconds, name, baseline):
    """Median over the rounds of a variant's time by that of the baseline in the same round."""
    return median(a / b for a, b in zip(seconds[name], seconds[baseline], strict=True))


def print_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> None:
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(str(cell) for cell in row)} |")


class Watched(ABC):
    """Something that is looked at now and then, in a thread, while a block runs."""

    every = 0.02  # seconds

    @abstractmethod
    def begin(self):
        """Look for the first time."""

    @abstractmethod
    def look(self):
        """Look again."""

    def __enter__(self):
        self.begin()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._watcher.join()

    def _watch(self):
        while not self._done.wait(self.every):
            self.look()


class PeakMemory(Watched):
    """The most memory of this process that lies in no file, looked at every 20 ms (Linux only).

    Attributes
    ----------
    before, megabytes : float
        RssAnon and RssShmem together, at the beginning and at the most.
    """

    def begin(self):
        self.before = self.megabytes = self._now()

    def look(self):
        self.megabytes = max(self.megabytes, self._now())

    def _now(self):
        status = Path("/proc/self/status").read_text()
        return sum(map(int, re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.M))) / 1024


def machine():
    """One line: device, processor, threads, load, versions."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        processor = names[0] if names else processor
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{device}, {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used, "
        f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )
