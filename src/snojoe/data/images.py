"""Encoded bytes to pixels, as the protocol does it: PIL, RGB, bilinear resize without aspect."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from snojoe.errors import SnojoeError
from snojoe.text import first_line

# Statistics of ImageNet, which every torchvision backbone expects.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Of the suffixes below; GIFs go by the name of JPEG in ImageNet. PIL knows more, and starts
# Ghostscript for some of them.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


class ImageError(SnojoeError):
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
            return Image.open(io.BytesIO(content), formats=FORMATS).convert("RGB")
    except UnidentifiedImageError:
        raise ImageError("empty" if not content else "not an image of a known format") from None
    except Exception as error:  # PIL raises whatever its decoders stumble over
        raise ImageError(first_line(error)) from None


def resize(image: Image.Image, size: int) -> np.ndarray:
    """RGB image to (size, size, 3) uint8, exactly ``torchvision.transforms.Resize((s, s))``."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image, leaving out hidden files (``._a.jpg``)."""
    return name.lower().endswith(SUFFIXES) and not name.rsplit("/", 1)[-1].startswith(".")
