"""What is done to an image before a network sees it; it is stored with the model."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

# Statistics of ImageNet, which every torchvision backbone expects.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Interpolation = Literal["bilinear", "bicubic"]
Statistics = tuple[float, float, float]


class Resize(NamedTuple):
    """How an image of any size becomes a square; always antialiased.

    Attributes
    ----------
    interpolation : "bilinear" or "bicubic"
    aspect_kept : bool
        Whether the shorter side is resized and the centre taken, or the image is squashed.
    crop : float in (0, 1]
        Edge of the centre that is taken, as a share of the resized image's shorter side.
    """

    interpolation: Interpolation = "bilinear"
    aspect_kept: bool = False
    crop: float = 1.0

    def __str__(self) -> str:
        """As it stands in ``config.json``; `read_resize` is the inverse."""
        aspect = "kept" if self.aspect_kept else "not kept"
        crop = "" if self.crop == 1 else f", central {self.crop!r}"
        return f"{self.interpolation}, antialiased, aspect {aspect}{crop}"

    def size(self, width: int, height: int, edge: int) -> tuple[int, int]:
        """Width and height to resize to, so that the central square of ``edge`` is what is seen."""
        shorter = math.floor(edge / self.crop + 1e-6)  # 224 / (224 / 232) is just below 232
        if not self.aspect_kept:
            return shorter, shorter
        longer = int(shorter * max(width, height) / min(width, height))
        return (shorter, longer) if width <= height else (longer, shorter)


_RESIZE = re.compile(
    r"(bilinear|bicubic), antialiased, aspect (kept|not kept)(?:, central (0\.\d+))?"
)


def read_resize(text: str) -> Resize:
    """The inverse of ``str(resize)``.

    Raises
    ------
    ValueError
        If this version has no such resize.
    """
    found = _RESIZE.fullmatch(text)
    if not found:
        raise ValueError(f"no such resize: {text!r}")
    interpolation: Interpolation = "bicubic" if found[1] == "bicubic" else "bilinear"
    return Resize(interpolation, found[2] == "kept", float(found[3] or 1))


class Preprocessing(BaseModel):
    """The resize to ``image_size`` x ``image_size``, then the normalisation of each channel."""

    model_config = ConfigDict(frozen=True, strict=True)

    image_size: Annotated[int, Field(gt=0)]
    resize: str
    mean: Statistics
    std: Statistics


def preprocessing(
    image_size: int,
    resize: Resize = Resize(),  # noqa: B008  # frozen
    mean: Statistics = MEAN,
    std: Statistics = STD,
) -> Preprocessing:
    """The protocol's: the image is squashed, ImageNet's statistics; or another."""
    return Preprocessing(image_size=image_size, resize=str(resize), mean=mean, std=std)
