"""Hand-made data in the real formats."""

import io
import json
import os
import signal
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from snojoe.model.folder import ModelConfig, Threshold, ValImages, save_model
from snojoe.model.preprocessing import preprocessing

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/_run.py

# A shell has background jobs ignore Ctrl-C; the processes that tests start and stop inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def jpeg(seed: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    """A small JPEG of noise, encoded."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def annotation(objects: Sequence[tuple[str, bool]]) -> bytes:
    """A VOC annotation of (class name, difficult) objects; the first has a body part."""
    lines = []
    for i, (name, difficult) in enumerate(objects):
        part = "<part><name>head</name></part>" if i == 0 else ""
        lines.append(
            f"<object><name>{name}</name><difficult>{int(difficult)}</difficult>{part}</object>"
        )
    return f"<annotation>{''.join(lines)}</annotation>".encode()


def voc_files(
    images: Mapping[str, Sequence[tuple[str, bool]]],
    lists: Mapping[str, Sequence[str]],
    *,
    name: str = "VOC2012",
    class_lists: Sequence[str] = (),
) -> dict[str, bytes]:
    """Files of a VOC tree: annotated images and image-set lists."""
    root = f"VOCdevkit/{name}"
    files = {}
    for i, (image_id, objects) in enumerate(images.items()):
        files[f"{root}/JPEGImages/{image_id}.jpg"] = jpeg(i)
        files[f"{root}/Annotations/{image_id}.xml"] = annotation(objects)
    for split, ids in lists.items():
        files[f"{root}/ImageSets/Main/{split}.txt"] = "".join(f"{i}\n" for i in ids).encode()
        for label in class_lists:
            text = "".join(f"{i} {1 if label in dict(images[i]) else -1}\n" for i in ids)
            files[f"{root}/ImageSets/Main/{label}_{split}.txt"] = text.encode()
    return files


COCO_CATEGORIES = (
    {"id": 7, "name": "zebra"},
    {"id": 1, "name": "cat"},
    {"id": 90, "name": "dog"},
)


def coco_json(
    images: Mapping[Any, str],
    annotations: Sequence[tuple[Any, Any]] = (),
    categories: Sequence[Mapping[str, Any]] = COCO_CATEGORIES,
) -> bytes:
    """A COCO file: images by id, annotations as pairs of image and category, some crowds."""
    tree = {
        "info": {"year": 2014},
        "images": [{"id": i, "file_name": name, "width": 40} for i, name in images.items()],
        "annotations": [
            {
                **{
                    "id": n,
                    "image_id": i,
                    "category_id": c,
                    "iscrowd": n % 2,
                    "bbox": [0, 0, 1, 1],
                },
                "segmentation": {"counts": [1], "size": [2, 2]} if n % 2 else [[0.5, 1, 2, 2]],
            }
            for n, (i, c) in enumerate(annotations)
        ],
        "categories": list(categories),
    }
    return json.dumps(tree).encode()


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def model_config(classes: Sequence[str], **changes: Any) -> ModelConfig:
    """What is known of an untrained resnet10 for 16 x 16 images."""
    values = {
        "arch": "resnet10",
        "classes": list(classes),
        "preprocessing": preprocessing(16),
        "sn_layers": 0,
        "normalized_weights": 0,
        "seed": 0,
        "model": {"arch": "resnet10", "weights": None},
        "spectral_norm": {"bound": "none"},
        "train": {"epochs": 1},
        "threshold": Threshold(accept=0.95, tau=1.0),
        "label_thresholds": dict.fromkeys(classes, 0.5),
        "val": ValImages(images=50, sha256="0" * 64),
    }
    return ModelConfig(**values | changes)


def model_folder(folder: Path, seed: int = 0) -> Path:
    """An untrained model of 16 x 16 images in three classes, as the train stage writes one."""
    import torch

    from snojoe.model.classifier import build_classifier
    from snojoe.model.decision import fit_decision

    torch.manual_seed(seed)
    classes = ["cat", "dog", "cow"]
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, 2, (50, 3)), rng.normal(-0.5, 0.5, (50, 3))
    labels[~labels.any(axis=1), 0] = 1
    calibrating = np.arange(50) % 5 > 0
    ids = [str(i) for i in range(50)]
    fitted, energies = fit_decision(classes, ids, labels, logits, calibrating)
    folder.mkdir(parents=True)
    save_model(build_classifier("resnet10", 3), folder, model_config(classes, **fitted), energies)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: `make test` has two processes."""
    longest = ("test_pipeline.py", "test_versioning.py", "test_project.py")
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.fixture
def lines() -> tuple[list[str], Callable[[str], None]]:
    """What was said to the user, and the function to say it with."""
    said: list[str] = []
    return said, said.append


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise; every second one is bright, and that is the label."""
    from small_trainings import SIZE

    from snojoe.data.shards import ShardRow, write_shards

    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    labels = [np.array([i % 2, 1 - i % 2]) for i in range(24)]
    train = [ShardRow(str(i), jpeg(i, (SIZE, SIZE)), labels[i]) for i in range(24)]
    pixels = rng.integers(0, 256, (24, SIZE, SIZE, 3), dtype=np.uint8)
    val = [ShardRow(str(i), pixels[i].tobytes(), labels[i]) for i in range(24)]
    write_shards(folder / "train", train, split="train", content="image", image_size=SIZE)
    write_shards(folder / "val", val, split="val", content="pixels", image_size=SIZE)
    return folder
