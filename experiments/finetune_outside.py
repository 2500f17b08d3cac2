"""A training script that knows nothing of this package: timm, PyTorch, and photographs of VOC.

It stands for whatever trained a model that somebody brings (docs/own-model.md): it learns a head on
features that are computed once, then fine-tunes the whole network, and saves what such scripts
save. It goes on from its last epoch where it was interrupted.
"""

import argparse
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # of the user's own files

import timm
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

NAME = "tf_efficientnet_lite0"
CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]


class Voc(Dataset[tuple[Tensor, Tensor]]):
    """Images of VOC with the classes of all their objects, difficult ones too."""

    def __init__(self, root: Path, lists: list[str], transform: nn.Module) -> None:
        self.transform = transform
        self.names = [
            root / year / "JPEGImages" / f"{name}.jpg"
            for year, split in (each.split("/") for each in lists)
            for name in (root / year / f"ImageSets/Main/{split}.txt").read_text().split()
        ]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        path = self.names[i]
        tree = ElementTree.parse(path.parents[1] / "Annotations" / f"{path.stem}.xml")
        labels = torch.zeros(len(CLASSES))
        for name in tree.iterfind("object/name"):
            labels[CLASSES.index(name.text or "")] = 1
        return self.transform(Image.open(path).convert("RGB")), labels


def mean_ap(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], device: str) -> float:
    model.eval()
    with torch.inference_mode():
        pairs = [(model(images.to(device)).cpu(), labels) for images, labels in loader]
    logits, labels = (torch.cat(each).numpy() for each in zip(*pairs, strict=True))
    known = labels.any(axis=0)
    return float(average_precision_score(labels[:, known], logits[:, known], average="macro"))


def learn_head(model: Any, loader: DataLoader[tuple[Tensor, Tensor]], device: str) -> None:
    """Logistic regression on features that are computed once."""
    model.eval()
    with torch.inference_mode():
        pairs = [(features(model, x.to(device)), y.to(device)) for x, y in loader]
    z, y = (torch.cat(each).clone() for each in zip(*pairs, strict=True))
    head = model.get_classifier()
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(head(z), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def features(model: Any, images: Tensor) -> Tensor:
    pooled: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
    return pooled


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--voc", type=Path, required=True, help="folder VOCdevkit")
    parser.add_argument("--weights", required=True, help="pretrained checkpoint")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)

    model = timm.create_model(
        NAME,
        num_classes=len(CLASSES),
        pretrained=True,
        pretrained_cfg_overlay={"file": args.weights},
    ).to(device)
    config = resolve_data_config(model=model)  # type: ignore[no-untyped-call]
    plain = create_transform(**config)
    crops = create_transform(**config, is_training=True, scale=(0.5, 1.0))
    train = ["VOC2012/train", "VOC2007/trainval"]

    def loader(
        lists: list[str], transform: nn.Module, shuffle: bool = False
    ) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(
            Voc(args.voc, lists, transform), 32, shuffle=shuffle, num_workers=args.workers
        )

    val = loader(["VOC2012/val"], plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, args.epochs))
    done = 0
    if args.out.exists():
        state = torch.load(args.out, map_location=device, weights_only=False)
        model.load_state_dict({k.removeprefix("module."): v for k, v in state["model"].items()})
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = state["epoch"]
    else:
        learn_head(model, loader(train, plain), device)
        print(f"head alone: val mAP {mean_ap(model, val, device):.4f}", flush=True)
        save(args, model, optimizer, schedule, 0)
    for epoch in range(done, args.epochs):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        for images, labels in loader(train, crops, shuffle=True):
            optimizer.zero_grad()
            logits = model(images.to(device))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}: val mAP {mean_ap(model, val, device):.4f}", flush=True)
        save(args, model, optimizer, schedule, epoch + 1)
    test = mean_ap(model, loader(["VOC2007/test"], plain), device)
    print(f"VOC2007 test mAP {test:.4f}", flush=True)


def save(
    args: argparse.Namespace,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
) -> None:
    """What training scripts save: names as of DataParallel, the optimiser, the options."""
    state = {
        "model": {f"module.{name}": value for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": epoch,
        "args": args,
    }
    temporary = args.out.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(args.out)


if __name__ == "__main__":
    main()
