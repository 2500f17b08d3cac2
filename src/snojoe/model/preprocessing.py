"""What is done to an image before a network sees it; it is stored with the model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Statistics of ImageNet, which every torchvision backbone expects.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """The resize to ``image_size`` x ``image_size``, then the normalisation of each channel."""

    model_config = ConfigDict(frozen=True, strict=True)

    image_size: Annotated[int, Field(gt=0)]
    resize: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def preprocessing(image_size: int) -> Preprocessing:
    """The one preprocessing that this version does."""
    resize = "bilinear, antialiased, aspect not kept"
    return Preprocessing(image_size=image_size, resize=resize, mean=MEAN, std=STD)
