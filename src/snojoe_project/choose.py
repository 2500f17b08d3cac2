"""Settings to begin with, and the reason for each."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from snojoe.model.architectures import TRUNKS, is_timm, layer_names
from snojoe.support.errors import SnojoeError
from snojoe_project.look import Look

# Images with a shorter side of at most this are no photographs as ImageNet has them.
_SMALL = 64
_EDGE = 224  # what ImageNet's networks learnt at
_STEP = 32  # the strides of a trunk
_IMAGES_SEEN = 12_000
_EPOCHS = (4, 30)


class Choice(NamedTuple):
    """A parameter's value, and why."""

    name: str
    value: object
    reason: str


def choose(
    look: Look,
    weights: str | None,
    sn_layers: Sequence[int] | None = None,
    *,
    gpu: bool | None = None,
) -> list[Choice]:
    """Values for what depends on the images and the machine.

    Parameters
    ----------
    look : Look
    weights : str or None
        What the user said of initial weights: a file or name of them, ``none``, or nothing.
    sn_layers : sequence of int, optional
        The depths of spectral normalisation to train beside the network without it; empty: the
        paper's, all layers but the last. None: no such network.
    gpu : bool or None
        Whether there is one; None asks.
    """
    gpu = has_gpu() if gpu is None else gpu
    small = 0 < look.edge <= _SMALL
    arch, start, why = _network(weights, small, gpu)
    pretrained = start is not None
    edge = _image_size(look.edge, small)
    low, high = _EPOCHS
    epochs = min(high, max(low, round(_IMAGES_SEEN / max(1, look.train))))
    freeze = max(1, epochs // 2 if pretrained else 3 * epochs // 4)
    batch = 8 if look.train < 100 else 16 if look.train < 1000 else 32
    factor, trunk = _trunk(pretrained, normalised=sn_layers is not None)
    return [
        *_depths(sn_layers, arch),
        Choice("seeds", [0], "One training to begin with; 0, 1, 2 decide together."),
        Choice(
            "data.image_size",
            edge,
            f"The images have {look.edge or '?'} pixels"
            + ("." if small else f"; {_EDGE} is what ImageNet's networks learnt at."),
        ),
        *([Choice("data.preprocessing", arch, "The network's own.")] if is_timm(arch) else []),
        Choice("model.arch", arch, why),
        Choice("model.weights", start, _of_weights(start)),
        Choice(
            "train.epochs",
            epochs,
            f"Of {look.train:,} images, to see about {_IMAGES_SEEN:,} in all; within {low} to "
            f"{high}.",
        ),
        Choice("train.batch_size", batch, f"For {look.train:,} images."),
        Choice("train.lr", 0.002 if pretrained else 0.004, "A start; compare val mAP of a few."),
        Choice("train.trunk_lr_factor", factor, trunk),
        Choice(
            "train.freeze_after_epoch",
            freeze,
            f"{'Half' if pretrained else 'Three quarters'} of the epochs.",
        ),
        Choice(
            "train.augment.flip",
            0.5,
            "For photographs; 0.0 where left and right differ, as in text and digits.",
        ),
        Choice("train.augment.scale", [0.5, 1.0], "Crops of at least half of an image."),
    ]


def _depths(asked: Sequence[int] | None, arch: str) -> list[Choice]:
    """Which depths of spectral normalisation; the deepest is the one that detects."""
    names = layer_names(arch)
    papers = len(names) - 1
    if wrong := [depth for depth in asked or () if not 0 <= depth <= len(names)]:
        raise SnojoeError(
            f"--sn-layers {wrong[0]}: expected 0 to {len(names)}: `snojoe layers {arch}` lists them"
        )
    depths = sorted({0, *((asked or [papers]) if asked is not None else ())})
    if depths == [0]:
        why = (
            "One network, without spectral normalisation. "
            f"`dvc exp run -S sn_layers={papers}` trains one with it, too, and compares the two."
        )
        return [Choice("sn_layers", 0, why), Choice("ablation.sn_layers", depths, "")]
    why = "as in the paper" if depths[-1] == papers else "as asked for"
    return [
        Choice("sn_layers", depths[-1], f"Of the {len(names)} layers of {arch}, {why}."),
        Choice("ablation.sn_layers", depths, f"{len(depths)} networks for each seed."),
    ]


def _trunk(pretrained: bool, normalised: bool) -> tuple[float, str]:
    """The trunk's rate beside the head's, and why: docs/findings/recipes.md has the figures."""
    if not pretrained:
        return 1.0, "From random weights: all alike."
    if normalised:  # of a trunk that stays BatchNorm's new statistics divide sigma out again
        return 0.1, "Pretrained: a tenth for the trunk, which SN changes."
    return 0.0, "Pretrained: it stays as it is, good for few images; 0.01 lets it learn slowly."


def has_gpu() -> bool:
    """Whether NVIDIA's driver lists one; PyTorch would take two seconds to say."""
    if not (program := shutil.which("nvidia-smi")):
        return False
    listed = subprocess.run([program, "-L"], check=False, capture_output=True, text=True)
    return listed.returncode == 0 and "GPU" in listed.stdout


def _network(weights: str | None, small: bool, gpu: bool) -> tuple[str, str | None, str]:
    """Architecture, initial weights, and why."""
    by_machine = "resnet50" if gpu else "mobilenet_v2"
    where = "There is a GPU." if gpu else "For processors: no GPU was found."
    if weights and weights != "none":
        name = Path(weights).name.lower()
        fitting = [arch for arch in TRUNKS if name.startswith(arch)]
        if not fitting and Path(weights).suffix:
            fitting = [f"timm/{arch}" for arch in _timm_networks() if name.startswith(arch)]
            if not fitting:
                raise SnojoeError(
                    f"--weights {weights}: expected a name that begins with that of its network, "
                    f"as torchvision's files do, {', '.join(TRUNKS)}; or that of one of timm's, "
                    "where timm is installed"
                )
        if fitting:
            return max(fitting, key=len), weights, "The network of the weights."
        return by_machine, weights, where
    if weights == "none" or small:
        why = "There are no pretrained weights" if weights == "none" else "The images are small"
        return "resnet10", None, f"{why}: a small network."
    return by_machine, "IMAGENET1K_V1", where


def _of_weights(weights: str | None) -> str:
    if weights is None:
        return "Nothing to start from: learnt from these images alone."
    if Path(weights).suffix:
        return "A file that you brought."
    return "The stage download fetches them once; without a network, `snojoe init --weights FILE`."


def _timm_networks() -> list[str]:
    try:
        from timm import list_models
    except ImportError:
        return []
    return list_models()


def _image_size(edge: int, small: bool) -> int:
    if small:
        return max(16, round(edge / 16) * 16)
    return min(_EDGE, max(_STEP, edge // _STEP * _STEP)) if edge else _EDGE
