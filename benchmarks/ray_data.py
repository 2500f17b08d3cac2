"""Detection on Ray Data beside `snojoe detect`: the same images and model, time and results.

    python benchmarks/ray_data.py photos models/sn9/seed0 --workers 2

Both start from nothing and end with every result: an interpreter or Ray itself, PyTorch in each
worker, the model. The CPU time is that of all processes, Ray's own too.
"""

import argparse
import json
import os
import resource
import secrets
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

import snojoe
from snojoe.detect.image_files import image_files

Found = dict[str, tuple[float, bool]]


def by_detect(photos: Path, model: Path) -> tuple[Found, float]:
    """Energy and decision of each image, and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; from snojoe.cli import main; sys.exit(main())"
    options = ["detect", str(photos), "--model", str(model), "--format", "jsonl"]
    done = subprocess.run(
        [sys.executable, "-c", code, *options], stdout=subprocess.PIPE, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [row for row in map(json.loads, done.stdout.splitlines()) if row["error"] is None]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {row["image"]: (row["energy"], row["in_distribution"]) for row in rows}, cpu


def by_ray(photos: Path, model: Path, workers: int) -> tuple[Found, float]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    before = time.process_time()
    # One more than there are workers: somebody has to read.
    ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
    names = [*image_files([str(photos)])]
    files = ray.data.read_binary_files(names, include_paths=True)
    table = files.map_batches(
        snojoe.BatchDetector,
        fn_constructor_args=[model.absolute()],
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=workers),
    ).to_pandas()
    cpu = time.process_time() - before
    for process in psutil.Process().children(recursive=True):
        used = process.cpu_times()
        cpu += used.user + used.system + used.children_user + used.children_system
    ray.shutdown()
    table = table[table["error"] == ""]
    rows = zip(table["path"], table["energy"], table["in_distribution"], strict=True)
    return {path: (energy, decision) for path, energy, decision in rows}, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    photos = options.photos.absolute()
    found: dict[str, Found] = {}
    for name, work in (
        ("snojoe detect", lambda: by_detect(photos, options.model)),
        ("Ray Data", lambda: by_ray(photos, options.model, options.workers)),
    ):
        start = time.perf_counter()
        found[name], cpu = work()
        wall = time.perf_counter() - start
        n = len(found[name])
        print(
            f"{name}: {n} images, {wall:.0f} s, {n / wall:.0f} images/s; CPU {cpu:.0f} s, "
            f"{1000 * cpu / n:.1f} ms an image; load {os.getloadavg()[0]:.1f}"
        )
    one, other = found.values()
    assert one.keys() == other.keys()
    difference = max(np.abs(one[name][0] - other[name][0]) for name in one)
    decided = sum(one[name][1] != other[name][1] for name in one)
    print(f"energies differ by at most {difference:.1e}, decisions on {decided} images")


if __name__ == "__main__":
    main()
