"""What a training may be asked for in the place of SN: each rival beside a control and hard SN.

The plan, docs/findings/rivals-plan.md, says what is trained, on what, and what is concluded. FOLDER
has archives/ and weights/. Killed and called again, it goes on with the trainings that are missing.

    python experiments/rivals.py digits docs/findings/rivals.csv
    python experiments/rivals.py photographs docs/findings/rivals.csv --folder FOLDER
    python experiments/rivals_verdict.py docs/findings/rivals.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from findings import append, make_data

from snojoe.params import Params, load_params
from snojoe.support.arithmetic import check_arithmetic, pin_arithmetic
from snojoe.support.files import atomic_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from snojoe.detectors import ModelOutputs
    from snojoe.model.classifier import Classifier

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CONTROL = "control"
# What differs from the control: the loss, the outliers, whether there is SN.
ARMS: dict[str, tuple[str, str | None, bool]] = {
    CONTROL: ("bce", None, False),
    "sn": ("bce", None, True),
    "pseudo": ("bce", "pseudo_ood", False),
    "auxiliary": ("bce", "auxiliary", False),
    "asymmetric": ("asymmetric", None, False),
    "logit_norm": ("logit_norm", None, False),
}
SCORES = ("joint_energy", "max_logit", "msp", "knn")
FIELDS = ("experiment", "draw", "seed", "arm", "map", "ood_set", "score", "auroc", "fpr95")

DRAWS = range(200, 210)  # data.digits.seed
LETTERS, VARIANTS, SCENES = "ACEFHKLMNRUVWXY", 20, 1500

SEEDS = range(300, 305)
CROPS_OF = 300  # the seed of the crops, which the trunk sees once
CROPPED = 2  # epochs of crops, in turn
OBJECTS, AUXILIARY = "objects", "auxiliary"


class Training(NamedTuple):
    """One training of an arm, on a draw of the data (0: photographs)."""

    draw: int
    seed: int
    arm: str


def changed(params: Params, arm: str) -> Params:
    """The parameters with what an arm has of its own."""
    loss, outliers, _ = ARMS[arm]
    tree = params.model_dump()
    tree["train"] |= {"loss": loss, "outliers": outliers}
    return Params.model_validate(tree)


def rows(
    experiment: str,
    training: Training,
    mean_ap: float,
    head: Any,
    outputs: dict[str, ModelOutputs],
) -> list[dict[str, Any]]:
    """The lines of a training; `outputs` are those for "train", "test" and the OOD sets."""
    from snojoe.detectors import DETECTORS, LinearHead
    from snojoe.measures.ood_metrics import AUROC, FPR95

    last = LinearHead(head.weight.detach().numpy(), head.bias.detach().numpy())
    known = {"experiment": experiment, **training._asdict(), "map": 100 * mean_ap}
    found = []
    for score in SCORES:
        detector = DETECTORS[score]().fit_outputs(outputs["train"], last)
        values = {name: detector.score_outputs(each) for name, each in outputs.items()}
        for ood_set in outputs.keys() - {"train", "test"}:
            measured = {m.name: 100 * m.of(values["test"], values[ood_set]) for m in (AUROC, FPR95)}
            found.append({**known, "ood_set": ood_set, "score": score, **measured})
    return sorted(found, key=lambda row: (row["ood_set"], SCORES.index(row["score"])))


def said(model: Classifier, batches: Iterable[tuple[Any, Any]]) -> ModelOutputs:
    """What a model says of batches of pixels with their labels."""
    import numpy as np
    import torch

    from snojoe.detectors import ModelOutputs

    model.eval()
    parts, labels = [], []
    with torch.inference_mode():
        for pixels, of_batch in batches:
            found = model.outputs(model.normalise(torch.from_numpy(pixels)))
            parts.append([each.numpy() for each in found])
            labels.append(of_batch)
    arrays = [np.concatenate(each) for each in zip(*parts, strict=True)]
    known = None if labels[0] is None else np.concatenate(labels)
    return ModelOutputs(arrays[0], arrays[1], arrays[2], known)


# The digits.


def write_letters(folder: Path, size: int, draw: int) -> None:
    """Scenes as the digits' are, of letters: a folder for each, as an OOD set has."""
    import numpy as np

    from snojoe.data.digits import Glyph, draw_scenes
    from snojoe.support.files import atomic_folder

    rng = np.random.default_rng((draw, 9))
    glyphs = {
        letter: [Glyph(i, _mask(letter, rng.uniform(-15, 15))) for i in range(VARIANTS)]
        for letter in LETTERS
    }
    with atomic_folder(folder) as target:
        for i, scene in enumerate(draw_scenes(glyphs, SCENES, size, (draw, 9))):
            path = target / scene.objects[0].name / f"{i:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            content = io.BytesIO()
            scene.image.save(content, "JPEG", quality=95, subsampling=0)  # as the digits
            path.write_bytes(content.getvalue())


def _mask(letter: str, angle: float) -> Image.Image:
    """A letter's ink as a digit's: 8 x 8, from 0, paper, to 255."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (160, 160))
    font = ImageFont.load_default(100)
    ImageDraw.Draw(canvas).text((80, 80), letter, 255, font, anchor="mm", stroke_width=4)
    canvas = canvas.rotate(angle, Image.Resampling.BICUBIC)
    return canvas.crop(canvas.getbbox()).resize((8, 8), Image.Resampling.BOX)


def digits(result: Path, scratch: Path, draws: Iterable[int]) -> None:
    """What is missing of some draws, draw by draw."""
    params = load_params()
    pin_arithmetic()
    for reason in check_arithmetic(["torch", "numpy"]):
        print(f"not the digits of other machines: {reason}", flush=True)
    for draw in draws:
        folder = scratch / f"draw{draw}"
        for training in (Training(draw, 10 * draw, arm) for arm in ARMS):
            if training not in finished(result, "digits"):
                with timed(training):
                    append(result, _digits(params, training, folder), FIELDS)
        shutil.rmtree(folder, ignore_errors=True)


def _digits(params: Params, training: Training, folder: Path) -> list[dict[str, Any]]:
    import torch

    from snojoe.data.prepared import read_classes
    from snojoe.data.shards import Shards
    from snojoe.experiment import Folders
    from snojoe.model.classifier import build_classifier
    from snojoe.spectral_norm import fold_spectral_norm
    from snojoe.training.loader import TrainSet, TrainTransform
    from snojoe.training.loop import train_classifier
    from snojoe.training.outliers import AuxiliaryOutliers, PseudoOutliers

    tree = params.model_dump()
    tree["data"] |= {"folder": str(folder), "outliers": {"path": "letters"}}
    tree["data"]["digits"]["seed"] = training.draw
    params = changed(Params.model_validate(tree), training.arm)
    if not (folder / "letters").exists():
        write_letters(folder / "letters", params.data.digits.size, training.draw)
    make_data(params, folder)
    folders = Folders(folder)
    torch.set_num_threads(params.train.threads)
    torch.manual_seed(training.seed)
    model = build_classifier(params.model.arch, len(read_classes(folders.prepared)))
    low, high = params.train.augment.scale
    transform = TrainTransform(params.data.image_size, (low, high), params.train.augment.flip)
    train = TrainSet(folders.shards("train"), transform, training.seed)
    _, outliers, normalised = ARMS[training.arm]
    letters = Shards(folders.outliers)
    record = train_classifier(
        model,
        train,
        Shards(folders.shards("val")),
        params=params.train,
        spectral_norm=params.spectral_norm,
        sn_layers=9 if normalised else 0,
        outliers={
            None: None,
            "pseudo_ood": PseudoOutliers(train),
            "auxiliary": AuxiliaryOutliers(letters, transform, training.seed, len(train)),
        }[outliers],
    )
    fold_spectral_norm(model)
    outputs = {
        name: said(model, ((b.pixels, b.labels) for b in Shards(folders.shards(name)).batches(128)))
        for name in ("train", "test", *params.data.ood)
    }
    return rows("digits", training, record.history[-1]["val_map"], model.head[-1], outputs)


# Photographs: a trunk that stays says the same of the same crop, whatever its head learns.


def photographs(result: Path, folder: Path, scratch: Path) -> None:
    """What is missing, seed by seed."""
    import torch

    torch.set_num_threads(1)
    scratch.mkdir(parents=True, exist_ok=True)
    params = photographs_settings(folder, scratch.resolve())
    with redirect_stdout(io.StringIO()):
        make_data(params, scratch)
    bank = Bank(scratch / "bank", params, scratch)
    for seed in SEEDS:
        for training in (Training(0, seed, arm) for arm in ARMS):
            if training not in finished(result, "photographs"):
                with timed(training):
                    append(result, _photographs(params, training, bank), FIELDS)


def photographs_settings(folder: Path, scratch: Path) -> Params:
    """The recipe, with the objects divided into those that are tested and those to train with."""
    from recipes import settings, write_lists

    write_lists(folder, scratch / "photographs")
    tars = sorted((folder / "archives/imagenet22k").glob("*.tar"))
    chosen = [tar for tar in tars if tar.stem.startswith("standin_")][1::2]
    for tar in tars:
        target = scratch / (AUXILIARY if tar in chosen else OBJECTS) / tar.name
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            shutil.copyfile(tar, target)
    for name in ("archives", "weights"):
        if not (scratch / name).exists():
            (scratch / name).symlink_to((folder / name).resolve())
    tree = settings("timm trunk 0", 1600, SEEDS[0], scratch).model_dump()
    tree["data"]["ood"][OBJECTS] = {"path": OBJECTS}
    tree["data"]["outliers"] = {"path": AUXILIARY}
    return Params.model_validate(tree)


class Bank:
    """The trunk's features of every crop and image that a head is trained or tested on.

    Parameters
    ----------
    folder : Path
        Where they are kept, or will be.
    params : Params
    root : Path
        With the prepared data and the weights.
    """

    def __init__(self, folder: Path, params: Params, root: Path) -> None:
        from snojoe.data.shards import Shards
        from snojoe.experiment import Folders
        from snojoe.model.classifier import build_classifier
        from snojoe.model.preprocessing import read_resize
        from snojoe.model.weights import weights_file
        from snojoe.training.loader import TrainSet, TrainTransform
        from snojoe.training.outliers import AuxiliaryOutliers, PseudoOutliers

        self.folder = folder
        folders = Folders(root)
        val = Shards(folders.shards("val"))
        made, (low, high) = val.preprocessing, params.train.augment.scale
        self.trunk = build_classifier(
            params.model.arch, 1, weights_file(folders.weights), made.image_size
        ).eval()
        self.trunk.mean, self.trunk.std = made.mean, made.std
        how = read_resize(made.resize).interpolation
        transform = TrainTransform(made.image_size, (low, high), params.train.augment.flip, how)
        train = TrainSet(folders.shards("train"), transform, CROPS_OF)
        self.labels = train.labels
        mine = Shards(folders.outliers)
        crops: dict[str, Any] = {
            "train": train,
            "pseudo_ood": PseudoOutliers(train),
            "auxiliary": AuxiliaryOutliers(mine, transform, CROPS_OF, len(train)),
        }
        self.crops = {name: self._crops(name, each) for name, each in crops.items()}
        self.sets = {}
        for name in ("train", "val", "test", *params.data.ood):
            shards = Shards(folders.shards(name))
            pixels = (batch.pixels for batch in shards.batches(64))
            self.sets[name] = self._features(f"set-{name}", pixels), shards.labels()

    def _crops(self, name: str, dataset: Any) -> list[NDArray[np.float32]]:
        """By epoch (n, C); of the labelled images, or as many outliers."""
        import numpy as np

        def batches(epoch: int) -> Iterator[NDArray[np.uint8]]:
            n = len(dataset)
            for start in range(0, n, 64):
                found = [dataset[epoch * n + i] for i in range(start, min(start + 64, n))]
                found = [each[0] if isinstance(each, tuple) else each for each in found]
                yield np.stack([each.numpy() for each in found])

        return [self._features(f"{name}-{epoch}", batches(epoch)) for epoch in range(CROPPED)]

    def _features(self, name: str, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        import numpy as np

        path = self.folder / f"{name}.npy"
        if not path.exists():
            self.folder.mkdir(exist_ok=True)
            with timed(path), atomic_file(path) as temporary, temporary.open("wb") as file:
                features = [said(self.trunk, [(each, None)]).features for each in batches]
                np.save(file, np.concatenate(features))
        return np.load(path)


def _photographs(params: Params, training: Training, bank: Bank) -> list[dict[str, Any]]:
    import torch
    from torch import nn

    from snojoe.measures.metrics import mean_average_precision
    from snojoe.model.classifier import Classifier, joint_energy_head
    from snojoe.spectral_norm import fold_spectral_norm
    from snojoe.training.loader import InEpochs
    from snojoe.training.loop import train_classifier

    class Head(Classifier):
        """The head alone, whose images are features."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            channels, classes = bank.crops["train"][0].shape[1], bank.labels.shape[1]
            self.trunk = nn.Sequential()
            self.head = joint_energy_head(channels, classes)

        def layers(self) -> list[tuple[str, nn.Module]]:
            return [("head", self.head)]

        def normalise(self, pixels: Tensor) -> Tensor:
            return pixels

        def features(self, images: Tensor) -> Tensor:
            return images

    class Crops(InEpochs):
        """Features of crops, with labels where they are the labelled images'."""

        def __init__(self, name: str) -> None:
            self.name, self.seed, self.epoch = name, training.seed, 0

        def __len__(self) -> int:
            return len(bank.labels)

        def __getitem__(self, position: int) -> Any:
            epoch, index = divmod(position, len(self))
            features = torch.from_numpy(bank.crops[self.name][epoch % CROPPED][index])
            return (features, bank.labels[index]) if self.name == "train" else features

    def images(name: str) -> Any:
        features, labels = bank.sets[name]
        batch = SimpleNamespace(pixels=features, labels=labels)
        return SimpleNamespace(batches=lambda _: [batch], image_size=1)

    own = changed(params, training.arm)
    _, outliers, normalised = ARMS[training.arm]
    torch.manual_seed(training.seed)
    model, train, val = Head(), Crops("train"), images("val")
    train_classifier(
        model,
        train,
        val,
        params=own.train,
        spectral_norm=own.spectral_norm,
        sn_layers=1 if normalised else 0,
        outliers=Crops(outliers) if outliers else None,
    )
    fold_spectral_norm(model)
    outputs = {name: said(model, [bank.sets[name]]) for name in ("train", "test", *own.data.ood)}
    test = outputs["test"]
    assert test.labels is not None
    found = mean_average_precision(test.labels, test.logits)
    return rows("photographs", training, found, model.head[-1], outputs)


class timed:
    """Say what was done, and how long it took; what it prints itself is not wanted."""

    def __init__(self, what: object) -> None:
        self.what = what
        self.silence = redirect_stdout(io.StringIO())

    def __enter__(self) -> None:
        self.started = time.monotonic(), time.process_time()
        self.silence.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.silence.__exit__(*error)
        took, cpu = time.monotonic() - self.started[0], time.process_time() - self.started[1]
        print(f"{time.strftime('%H:%M:%S')} {self.what}: {took:.0f} s, CPU {cpu:.0f} s", flush=True)


def finished(result: Path, experiment: str) -> set[Training]:
    """The trainings that have their lines."""
    with result.open(newline="") as file:
        return {
            Training(int(row["draw"]), int(row["seed"]), row["arm"])
            for row in csv.DictReader(file)
            if row["experiment"] == experiment
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["digits", "photographs"])
    parser.add_argument("result", type=Path, help="CSV to write, or to go on with")
    parser.add_argument("--folder", type=Path, help="with archives and weights, for photographs")
    parser.add_argument("--scratch", type=Path, default=Path(".checkpoints/rivals"))
    parser.add_argument("--draws", nargs="+", type=int, default=DRAWS, choices=DRAWS)
    options = parser.parse_args()
    if not options.result.exists():
        options.result.write_text(f"{','.join(FIELDS)}\n")
    if options.what == "digits":
        return digits(options.result, options.scratch / "digits", options.draws)
    if options.folder is None:
        parser.error("photographs needs --folder")
    photographs(options.result, options.folder, options.scratch / "photographs")


if __name__ == "__main__":
    main()
