"""Images per second and core from the store to the network's input, beside the protocol's way.

    python benchmarks/input.py ORIGINALS.tar [--rounds 7]

ORIGINALS.tar holds VOC's and other images as they were published, in the layout of the real sets.
The protocol's way opens each file with PIL and applies torchvision's v1 transforms; ours reads the
shards that `preprocess` wrote, as training and inference do. Training keeps as many images decoded
as fit into 1 GiB: of VOC2012's 5,717 a part, whose share the benchmark takes. Batches of 32 at
256 x 256 on one thread, processor time; the ways take turns in every round, and a ratio is the
median over rounds.
"""

import argparse
import random
import tarfile
import tempfile
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from timing import machine, print_table, ratio, take_turns
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from snojoe.data.images import is_image, to_square
from snojoe.data.shards import ShardRow, Shards, write_shards
from snojoe.model.pixels import normalise
from snojoe.model.preprocessing import MEAN, STD, preprocessing
from snojoe.training import loader
from snojoe.training.loader import TrainSet, TrainTransform, train_loader

SIZE, BATCH, SCALE = 256, 32, (0.5, 2.0)
VOC2012_TRAIN = 5717


class Files(Dataset[tuple[Tensor, Tensor]]):
    """The protocol's way: one file, one image, its transforms."""

    def __init__(self, paths, *geometry):
        self.paths = paths
        normalisation = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose([*geometry, *normalisation])

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]).convert("RGB")), torch.zeros(20)


def store(folder, paths):
    """Shards as `preprocess` writes them: the encoded originals, and pixels for evaluation."""
    for content in ("image", "pixels"):
        rows = (
            ShardRow(
                path.name,
                path.read_bytes()
                if content == "image"
                else to_square(Image.open(path).convert("RGB"), preprocessing(SIZE)).tobytes(),
                torch.zeros(20, dtype=torch.uint8).numpy(),
            )
            for path in paths
        )
        write_shards(folder / content, rows, split=content, content=content, image_size=SIZE)


def training_batches(dataset):
    return (normalise(pixels) for pixels, _ in train_loader(dataset, BATCH, 0))


def consume(images):
    for _ in images:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("originals", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with tarfile.open(arguments.originals) as archive:
            for i, member in enumerate(archive):
                if is_image(member.name) and (file := archive.extractfile(member)):
                    (folder / f"{i:05d}.jpg").write_bytes(file.read())
        paths = sorted(folder.glob("*.jpg"))
        random.Random(0).shuffle(paths)  # the sets differ in the size of their images
        paths = paths[: len(paths) // BATCH * BATCH]
        store(folder, paths)

        evaluation = Files(paths, transforms.Resize((SIZE, SIZE)))
        training = Files(
            paths, transforms.RandomHorizontalFlip(), transforms.RandomResizedCrop(SIZE, SCALE)
        )
        shards = Shards(folder / "pixels")
        transform = TrainTransform(SIZE, SCALE, 0.5)
        decoded, partly, encoded = (TrainSet(folder / "image", transform, seed=0) for _ in range(3))
        image_bytes = sum(image.nbytes for image in decoded.images) / len(paths)
        share = min(1, loader._KEPT_BYTES / (VOC2012_TRAIN * image_bytes))
        partly.images = decoded.images[: round(share * len(paths))]
        encoded.images = []
        for dataset in (decoded, partly, encoded):
            dataset.room = 0  # each round is an epoch's first pass
        ways = {
            "evaluation, protocol": lambda: DataLoader(evaluation, BATCH),
            "evaluation, shards": lambda: (
                normalise(torch.from_numpy(batch.pixels)) for batch in shards.batches(BATCH)
            ),
            "training, protocol": lambda: DataLoader(training, BATCH, shuffle=True),
            "training, all encoded": lambda: training_batches(encoded),
            f"training, {share:.0%} decoded, as of VOC2012's": lambda: training_batches(partly),
            "training, all decoded": lambda: training_batches(decoded),
        }
        seconds = take_turns(
            {name: lambda images=images: consume(images()) for name, images in ways.items()},
            arguments.rounds,
        )
    print(f"{machine()}\n{len(paths)} originals, {SIZE} x {SIZE}, {arguments.rounds} rounds\n")
    print_table(
        ("images", "per second and core", "faster"),
        [
            (
                name,
                f"{len(paths) / median(each):,.0f}",
                f"{ratio(seconds, name.split(',')[0] + ', protocol', name):.2f} x",
            )
            for name, each in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()
