"""Download and preprocess at the paper's size: `python benchmarks/full_size.py`.

Makes a stand-in for VOC2012, ImageNet-22K and DTD in a temporary folder: as many JPEGs of about
500 x 375 as in the paper, under the paper's names and counts, so that params/paper.yaml's own
numbers are checked. Two of its archives come over HTTP from this process. Runs both stages in a
copy of the working tree at a quarter and at the full size, and prints wall time, peak memory, disk,
and what `dvc status` takes afterwards. Needs about 30 GB in the temporary folder (TMPDIR).
"""

import argparse
import hashlib
import io
import itertools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from snojoe.data.class_names import VOC as CLASSES
from snojoe.support.text import aligned, human_size

ROOT = Path(__file__).parents[1]
DISTINCT = 200  # encoded images; all others are these with another comment
VOC = "VOCdevkit/VOC2012"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def photographs(width: int, height: int) -> list[bytes]:
    """Smooth gradients under noise, which at this quality take as much as VOC's photographs."""
    rng = np.random.default_rng(0)
    encoded = []
    for i in range(DISTINCT):
        size = (width, height) if i % 4 else (height, width)
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
        pixels = np.clip(smooth + rng.normal(0, 30, smooth.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
        encoded.append(buffer.getvalue())
    return encoded


def stream(size: tuple[int, int] = (500, 375)):
    """Endlessly many distinct images; of 500 x 375 they take 110 kB."""
    for i, image in enumerate(itertools.cycle(photographs(*size))):
        comment = f"{i:012d}".encode()
        yield image[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + image[2:]


def write_tar(path: Path, files, mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    gzip = mode == "w:gz"
    with (
        tarfile.open(path, "w:gz", compresslevel=1) if gzip else tarfile.open(path, "w")
    ) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def voc(images, expected: dict[str, Any], splits: list[str]):
    """Files of a VOC archive; train has the expected positives, other images one object each."""
    for split in splits:
        ids = [f"{split}_{i:06d}" for i in range(expected["images"][split])]
        listed = "".join(f"{image_id}\n" for image_id in ids)
        yield f"{VOC}/ImageSets/Main/{split}.txt", listed.encode()
        for label in CLASSES:
            yield f"{VOC}/ImageSets/Main/{label}_{split}.txt", b""
        for i, image_id in enumerate(ids):
            yield f"{VOC}/JPEGImages/{image_id}.jpg", next(images)
            if split != "test":
                others = [name for name in CLASSES if name not in expected["positives"]]
                names = [others[i % len(others)]]
                names += [name for name, count in expected["positives"].items() if i < count]
                objects = "".join(f"<object><name>{name}</name></object>" for name in names)
                content = f"<annotation>{objects}</annotation>".encode()
                yield f"{VOC}/Annotations/{image_id}.xml", content


def make(folder: Path, served: Path, address: str, share: float) -> None:
    """Archives under the names of params/paper.yaml, and a params.yaml with other addresses."""
    params = yaml.safe_load((ROOT / "params/paper.yaml").read_text())
    data, archives = params["data"], folder / "archives"
    for section in ("images", "positives"):
        numbers = data["expected"][section]
        numbers |= {name: round(share * count) for name, count in numbers.items()}
    expected, images = data["expected"], stream()
    trainval, test = data["id"]
    imagenet, texture = data["ood"]["imagenet22k"], data["ood"]["texture"]

    classes = imagenet["classes"]
    counts = [len(part) for part in np.array_split(range(expected["images"]["imagenet22k"]), 20)]
    for name, count in zip(classes, counts, strict=True):
        path = archives / imagenet["path"] / f"{name}.tar"
        write_tar(path, ((f"{name}_{i}.JPEG", next(images)) for i in range(count)))
    write_tar(archives / test["path"], voc(images, expected, ["test"]))
    for source, files, mode in (
        (trainval, voc(images, expected, ["train", "val"]), "w"),
        (
            texture,
            (
                (f"dtd/images/class{i % 47:02d}/{i:05d}.jpg", next(images))
                for i in range(expected["images"]["texture"])
            ),
            "w:gz",
        ),
    ):
        name = Path(source["url"][0]).name
        write_tar(served / name, files, mode)
        with (served / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        source |= {"url": [f"{address}/{name}"], "sha256": digest}
    params["model"]["weights"] = None
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def copy_of_the_working_tree(folder: Path) -> None:
    listed = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def run(folder: Path, *command: str) -> tuple[float, int]:
    """Wall time in seconds and peak memory in bytes of a command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(share: float, link: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="full-size-") as temporary:
        folder, served = Path(temporary) / "clone", Path(temporary) / "served"
        served.mkdir()
        httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served)))
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        copy_of_the_working_tree(folder)
        make(folder, served, f"http://127.0.0.1:{httpd.server_port}", share)
        run(folder, "dvc", "config", "cache.type", link)

        download, download_peak = run(folder, "python", "stages/download.py")
        preprocess, preprocess_peak = run(folder, "python", "stages/preprocess.py")
        commit, _ = run(folder, "dvc", "commit", "--force", "download", "preprocess")
        statuses = [run(folder, "dvc", "status", "download", "preprocess")[0] for _ in range(3)]
        httpd.shutdown()
        data = folder / "data"
        return {
            "images": f"{sum(_images(folder)):,}",
            "download, s": f"{download:.1f}",
            "download, peak memory": human_size(download_peak),
            "preprocess, s": f"{preprocess:.1f}",
            "preprocess, peak memory": human_size(preprocess_peak),
            "DVC hashes and caches these, s": f"{commit:.1f}",
            "dvc status, s (median of 3)": f"{sorted(statuses)[1]:.1f}",
            "archives brought": human_size(disk(folder / "archives")),
            "data/raw": human_size(disk(data / "raw")),
            "data/prepared/train": human_size(disk(data / "prepared/train")),
            "data/prepared": human_size(disk(data / "prepared")),
            f"DVC's cache ({link})": human_size(disk(folder / ".dvc/cache")),
        }


def _images(folder: Path) -> list[int]:
    expected = yaml.safe_load((folder / "params.yaml").read_text())["data"]["expected"]
    return list(expected["images"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--link", default="reflink,copy", help="DVC's cache.type")
    options = parser.parse_args()
    columns = [measure(share, options.link) for share in options.shares]
    header = ["", *(f"{share:.0%}" for share in options.shares)]
    print(aligned([header, *([name, *(c[name] for c in columns)] for name in columns[0])]))


if __name__ == "__main__":
    main()
