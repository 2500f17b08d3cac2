"""Encoded bytes to pixels, as the protocol does it: PIL, RGB, bilinear resize without aspect."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

# Statistics of ImageNet, which every torchvision backbone expects.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


class ImageError(ValueError):
    """The bytes are not an image that can be decoded; the message says why."""


def decode(content: bytes) -> Image.Image:
    """Encoded image to a loaded RGB image.

    Raises
    ------
    ImageError
        If the bytes are empty, of an unknown format, truncated, or a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", "Palette images with Transparency")
            return Image.open(io.BytesIO(content)).convert("RGB")
    except UnidentifiedImageError:
        raise ImageError("empty" if not content else "not an image of a known format") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ImageError(str(error)) from None


def resize(image: Image.Image, size: int) -> np.ndarray:
    """RGB image to (size, size, 3) uint8, exactly ``torchvision.transforms.Resize((s, s))``."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image, leaving out hidden files (``._a.jpg``)."""
    return name.lower().endswith(SUFFIXES) and not name.rsplit("/", 1)[-1].startswith(".")
