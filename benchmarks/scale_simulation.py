"""The two riskiest statements of docs/scale.md, tried: an engine with stub workers, a long table.

    python benchmarks/scale_simulation.py engine [--workers 2 8 32] [--content paths bytes]
    python benchmarks/scale_simulation.py virtual [--engine-ms 28] [--batch 64] [--ms 220]
    python benchmarks/scale_simulation.py tables [--rows 10000000] [--shard-rows 1000000]

``engine``: Ray Data (extra `ray`) hands batches to N workers that do nothing for as long as
detection takes: 220 ms an image, as a ResNet-50 on a core; --ms 0: as fast as the engine can.
Of the batches 2% take five times as long (stragglers), and 1% end their worker's process, as a
machine that is lost, and are tried again. ``paths``: workers are handed names, and open the images
themselves; ``bytes``: the engine reads files of 50 kB and hands over their content, as
docs/scale-out.md has it. Counted are, from 5% to 80% of the images, images per second beside those
of N workers that never wait, and the CPU time of all of Ray's processes for a batch. Every image
has to come out, once.

``virtual``: the same as events in a clock that is a number, for more workers than a machine can
start; one engine takes as long for a batch as ``engine`` says, and a lost worker is back after a
minute.

``tables``: what detection writes of 10^7 images, five labels, in one Parquet file: written, read,
grouped, sorted; and `snojoe detect`'s CSV for a tenth as many. Then what preprocess writes: a set
of 10^6 images of one pixel each, which is made, opened and asked for its names and groups. Each
step in a process of its own, on one thread; memory is the largest sum of RssAnon and RssShmem, on
top of the imports' (Linux only). Takes 3 GB in the temporary folder (TMPDIR).
"""

import argparse
import contextlib
import heapq
import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from timing import PeakMemory, Watched, machine, print_table

LABELS = [f"label{i}" for i in range(5)]
FOLDERS = 10_000
CHUNK = 100_000
STRAGGLERS, SLOWER = 0.02, 5.0


class Stub:
    """In the place of `snojoe.BatchDetector`: waits; some batches end its process, once each."""

    def __init__(self, workers: int, seconds: float, lost: float, scratch: str) -> None:
        self.seconds, self.lost, self.scratch = seconds, lost, Path(scratch)
        (self.scratch / f"ready{os.getpid()}").touch()
        while len([*self.scratch.glob("ready*")]) < workers:  # none begins before all are there
            time.sleep(0.2)

    def __call__(self, batch):
        ids = np.array([int(Path(str(path)).stem) for path in batch["path"]])
        rng = np.random.default_rng(int(ids[0]))
        once = self.scratch / f"lost{ids[0]}"
        if rng.random() < self.lost and not once.exists():
            once.touch()
            os._exit(1)
        slower = SLOWER if rng.random() < STRAGGLERS else 1.0
        time.sleep(self.seconds * len(ids) * slower)
        return {"id": ids, "ended": np.full(len(ids), time.time())}


def engine(options: argparse.Namespace) -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    print(f"{machine()}\n", flush=True)
    # Cores for reading alone: workers that wait need none.
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=2**30,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = []
    for content in options.content:
        for workers in options.workers:
            with tempfile.TemporaryDirectory() as scratch:
                rows.append(simulate(ray, content, workers, options, Path(scratch)))
            print(*rows[-1], file=sys.stderr, flush=True)
    ray.shutdown()
    print_table(
        (
            *("handed over", "workers", "ms an image", "batch", "images", "images/s"),
            *("N alone, images/s", "reached", "cores busy", "CPU, ms a batch", "workers lost"),
        ),
        rows,
    )


def simulate(ray, content, workers, options, scratch):
    """A row of the table for so many workers."""
    batch, seconds = options.batch, options.ms / 1000
    images = batch * round(max(40, workers * options.seconds / max(seconds, 1e-3) / batch))
    if content == "bytes":
        files = ray.data.read_binary_files(write_files(scratch, images), include_paths=True)
    else:
        table = ray.data.range(images, override_num_blocks=images // batch)
        files = table.map_batches(_named, batch_size=None)
    with Busy() as busy:
        found = files.map_batches(
            Stub,
            fn_constructor_args=[workers, seconds, options.lost, str(scratch)],
            batch_size=batch,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=0.01,
        ).to_pandas()
    assert sorted(found["id"]) == [*range(images)], "an image is missing, or is there twice"
    # Neither the start nor the end, when some have nothing left to do.
    first, last = found["ended"].quantile([0.05, 0.8])
    steady = found[(found["ended"] > first) & (found["ended"] <= last)]
    rate = len(steady) / (last - first)
    used = busy.between(first, last)
    alone = workers / seconds / (1 + STRAGGLERS * (SLOWER - 1)) if seconds else np.inf
    return (
        content,
        workers,
        f"{options.ms:g}",
        batch,
        f"{images:,}",
        f"{rate:,.0f}",
        f"{alone:,.0f}",
        f"{rate / alone:.0%}" if seconds else "",
        f"{used / (last - first):.2f}",
        f"{1000 * used / len(steady) * batch:.1f}",
        len([*scratch.glob("lost*")]),
    )


def write_files(folder, count):
    """Paths of so many files of 50 kB, of which many are links to one."""
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        if i % 10_000 == 0:  # no file may have more than 65,000 names
            path.write_bytes(os.urandom(50_000))
        else:
            path.hardlink_to(paths[i // 10_000 * 10_000])
    return [str(path) for path in paths]


class Busy(Watched):
    """Processor time of this process and of all that it has started, looked at often."""

    every = 0.25

    def begin(self):
        self.seen = []
        self.look()

    def look(self):
        self.seen.append((time.time(), self._seconds()))

    def between(self, begin, end):
        times, seconds = np.array(self.seen).T
        return float(np.diff(np.interp([begin, end], times, seconds))[0])

    def _seconds(self):
        import psutil

        total = time.process_time()
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
        return total


def _named(batch):
    return {"path": np.array([f"{i}.jpg" for i in batch["id"]])}


def virtual(options: argparse.Namespace) -> None:
    """The same for more workers than a machine can start: events, in a clock that is a number."""
    print_table(
        ("workers", "batch", "ms an image", "engine, ms a batch", "images/s", "reached", "retried"),
        [row for n in options.workers for row in (events(n, options, np.random.default_rng(n)),)],
    )


def events(workers, options, rng):
    """A row: batches are handed out by one engine, one after the other, to whoever is free."""
    batch, seconds, each = options.batch, options.ms / 1000, options.engine_ms / 1000
    waiting = 30 * workers
    free = [(0.0, i) for i in range(workers)]
    engine, retried, ended = 0.0, 0, []
    while waiting:
        at, worker = heapq.heappop(free)
        engine = max(engine, at) + each
        took = seconds * batch * (SLOWER if rng.random() < STRAGGLERS else 1.0)
        if rng.random() < options.lost:  # somewhere in its batch, which waits anew
            retried += 1
            heapq.heappush(free, (engine + took * rng.random() + options.restart, worker))
            continue
        waiting -= 1
        ended.append(engine + took)
        heapq.heappush(free, (engine + took, worker))
    first, last = np.quantile(ended, [0.05, 0.8])
    rate = batch * sum(first < end <= last for end in ended) / (last - first)
    alone = workers / seconds / (1 + STRAGGLERS * (SLOWER - 1))
    return (
        f"{workers:,}",
        f"{batch:,}",
        f"{options.ms:g}",
        f"{options.engine_ms:g}",
        f"{rate:,.0f}",
        f"{rate / alone:.0%}",
        f"{retried:,}",
    )


def rows(start, count):
    """Of `count` images from `start` on, what detection says."""
    rng = np.random.default_rng(start)
    ids = np.arange(start, start + count)
    folder = np.char.mod("%05d/", rng.integers(0, FOLDERS, count))
    logits = rng.normal(-2, 2, (count, len(LABELS)))
    shares = np.logaddexp(0, logits)
    energy = shares.sum(axis=1)
    columns = {
        "path": np.char.add(folder, np.char.mod("%012d.jpg", ids)),
        "error": np.full(count, ""),
        "in_distribution": energy >= 1,
        "energy": energy,
        "score_name": np.full(count, "joint_energy"),
        "score": energy,
        "tau": np.ones(count),
        "p_value": rng.random(count),
        "labels": np.array(["", "label0", "label1;label2"])[rng.integers(0, 3, count)],
    }
    for k, name in enumerate(LABELS):
        columns[f"p({name})"] = 1 / (1 + np.exp(-logits[:, k]))
        columns[f"share({name})"] = shares[:, k] / energy
    return pa.table(columns)


def write_parquet(folder, n):
    with pq.ParquetWriter(folder / "found.parquet", rows(0, 1).schema) as writer:
        for start in range(0, n, CHUNK):
            writer.write_table(rows(start, min(CHUNK, n - start)))


def read_column(folder, n):
    energy = pq.read_table(folder / "found.parquet", columns=["energy"])["energy"]
    assert len(energy) == n


def by_folder_at_once(folder, n):
    """Sizes of groups and their share of OOD, two columns in memory."""
    table = pq.read_table(folder / "found.parquet", columns=["path", "in_distribution"])
    names = pc.utf8_slice_codeunits(table["path"], 0, 5)
    table = pa.table({"folder": names, "inside": table["in_distribution"]})
    found = table.group_by("folder").aggregate([("inside", "count"), ("inside", "sum")])
    assert pc.sum(found["inside_count"]).as_py() == n


def by_folder_streamed(folder, n):
    """The same, a part of the file after the other."""
    sizes: Counter[str] = Counter()
    for part in pq.ParquetFile(folder / "found.parquet").iter_batches(columns=["path"]):
        counted = pc.utf8_slice_codeunits(part["path"], 0, 5).value_counts()
        sizes.update(dict(zip(*map(pa.Array.to_pylist, counted.flatten()), strict=True)))
    assert sum(sizes.values()) == n


def lowest_1000(folder, n):
    table = pq.read_table(folder / "found.parquet", columns=["path", "energy"])
    assert len(table.take(pc.select_k_unstable(table, 1000, [("energy", "ascending")]))) == 1000


def sort_whole(folder, n):
    table = pq.read_table(folder / "found.parquet")
    pq.write_table(table.sort_by("energy"), folder / "sorted.parquet")
    (folder / "sorted.parquet").unlink()


def false_discoveries(folder, n):
    from snojoe.measures.conformal import benjamini_hochberg

    values = pq.read_table(folder / "found.parquet", columns=["p_value"])["p_value"]
    assert len(benjamini_hochberg(values.to_numpy(), 0.05)) == n


def write_csv(folder, n):
    """As ``snojoe detect --format csv`` does, an image at a time."""
    from snojoe.detect import formats
    from snojoe.model.decision import Decision, Detection

    def results():
        for i in range(n):
            of_labels = dict.fromkeys(LABELS, i / n)
            one = Detection(i / n, None, i / n, i / n, True, LABELS[:1], of_labels, of_labels)
            yield f"{i % FOLDERS:05d}/{i:012d}.jpg", one

    decision = Decision(LABELS, 10.0, np.full(len(LABELS), 0.5), np.zeros(100))
    with (folder / "found.csv").open("w") as file:
        formats.write_csv(results(), decision, file)


def read_csv(folder, n):
    import pandas as pd

    assert len(pd.read_csv(folder / "found.csv")) == n


def write_set(folder, n):
    from snojoe.data.shards import ShardRow, write_shards

    labels = np.ones(len(LABELS), np.uint8)
    images = (ShardRow(f"set/{i:012d}", b"rgb", labels, (f"{i // 3}",)) for i in range(n))
    write_shards(folder / "val", images, split="val", content="pixels", image_size=1)


def open_set(folder, n):
    from snojoe.data.shards import Shards

    assert len(Shards(folder / "val")) == n


def ids_and_labels(folder, n):
    from snojoe.data.shards import Shards

    shards = Shards(folder / "val", whole=False)
    assert len(shards.table(["id"])) == n
    labels = shards.labels()
    assert labels is not None
    assert labels.shape == (n, len(LABELS))


def clusters(folder, n):
    from snojoe.data.shards import Shards
    from snojoe.measures.clusters import Clusters

    assert Clusters.of(Shards(folder / "val", whole=False).groups()).n == n


Step = Callable[[Path, int], None]

TABLES: dict[str, tuple[Step, str, float]] = {
    "detections, write Parquet": (write_parquet, "rows", 1),
    "read one column": (read_column, "rows", 1),
    "sizes and OOD share of 10,000 folders, at once": (by_folder_at_once, "rows", 1),
    "sizes of 10,000 folders, streamed": (by_folder_streamed, "rows", 1),
    "the 1,000 lowest energies, with names": (lowest_1000, "rows", 1),
    "Benjamini-Hochberg": (false_discoveries, "rows", 1),
    "sort the whole by energy, write": (sort_whole, "rows", 1),
    "detections, write CSV": (write_csv, "rows", 0.1),
    "read the CSV (pandas)": (read_csv, "rows", 0.1),
    "prepared set, write": (write_set, "shard_rows", 1),
    "open, checksums compared": (open_set, "shard_rows", 1),
    "names and labels": (ids_and_labels, "shard_rows", 1),
    "groups to clusters": (clusters, "shard_rows", 1),
}


def step(name, folder, n):
    pa.set_cpu_count(1)
    with PeakMemory() as memory:
        began = time.process_time()
        TABLES[name][0](folder, n)
        took = time.process_time() - began
    print(json.dumps([took, memory.megabytes - memory.before]))


def tables(options: argparse.Namespace) -> None:
    print(f"{machine()}\n", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, (_, what, share) in TABLES.items():
            n = round(vars(options)[what] * share)
            command = [sys.executable, __file__, "step", name, scratch, str(n)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
            results.append((name, f"{n:,}", f"{seconds:.1f}", f"{megabytes:,.0f}"))
            print(*results[-1], file=sys.stderr, flush=True)
        sizes = {path: path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file()}
        stored = Counter({path.relative_to(scratch).parts[0]: 0 for path in sizes})
        for path, size in sizes.items():
            stored[path.relative_to(scratch).parts[0]] += size
        files = len([*(Path(scratch) / "val").iterdir()])
    print_table(("step", "rows", "s of CPU", "peak memory, MB"), results)
    print(f"\n{', '.join(f'{name} {size / 1e6:,.0f} MB' for name, size in stored.items())}", end="")
    print(f"; {files} files in val")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("engine")
    command.add_argument("--workers", type=int, nargs="+", default=[2, 8, 32])
    command.add_argument("--content", nargs="+", choices=["paths", "bytes"], default=["paths"])
    command.add_argument("--batch", type=int, default=32)
    command.add_argument("--ms", type=float, default=220.0, help="of a worker, for an image")
    command.add_argument("--lost", type=float, default=0.01, help="share of batches")
    command.add_argument("--seconds", type=float, default=90.0, help="of work for each worker")
    command.set_defaults(call=engine)
    command = commands.add_parser("virtual")
    command.add_argument("--workers", type=int, nargs="+", default=[10, 100, 300, 1_000, 3_000])
    command.add_argument("--batch", type=int, default=64)
    command.add_argument("--ms", type=float, default=220.0, help="of a worker, for an image")
    command.add_argument("--engine-ms", type=float, default=28.0, help="for a batch")
    command.add_argument("--lost", type=float, default=0.01, help="share of batches")
    command.add_argument("--restart", type=float, default=60.0, help="seconds until one is back")
    command.set_defaults(call=virtual)
    command = commands.add_parser("tables")
    command.add_argument("--rows", type=int, default=10_000_000)
    command.add_argument("--shard-rows", type=int, default=1_000_000)
    command.set_defaults(call=tables)
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["step"]:
        step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
