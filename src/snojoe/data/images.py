"""Encoded bytes to pixels, as the protocol does it: PIL, RGB, bilinear resize without aspect.

Training, evaluation and detection all decode here.
"""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from snojoe.support.errors import SnojoeError

# Of the suffixes below. PIL knows more, and starts Ghostscript for some of them.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp"),
    *(".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"),
)

_BOMB = "more pixels than PIL's limit (a decompression bomb?)"


class ImageError(SnojoeError):
    """Not an image that can be decoded; the message says why."""


def decode(source: bytes | Path | Image.Image) -> Image.Image:
    """Encoded image, image file or opened image to pixels as a person sees them, in RGB.

    The EXIF orientation is applied, transparent parts lie on white, 16-bit grey is scaled to 8
    bits, and of an animation the current frame counts: the first, where nobody moved it.

    Raises
    ------
    ImageError
        If there is nothing, or no image of a known format, or it is truncated or otherwise
        damaged, or larger than PIL's limit (about 89 million pixels), as decompression bombs are,
        or its pixels are 32-bit numbers, whose black and white nobody knows.
    """
    try:
        if isinstance(source, Image.Image):
            return _rgb(source)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            return _rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        empty = not source.stat().st_size if isinstance(source, Path) else source == b""
        raise ImageError("empty" if empty else "not an image of a known format") from None
    except Image.DecompressionBombError:
        raise ImageError(_BOMB) from None
    except Exception as error:  # damaged bytes make PIL's decoders raise almost anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(reason or type(error).__name__) from None


def _rgb(image: Image.Image) -> Image.Image:
    # PIL itself only warns, up to twice its limit.
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ImageError(_BOMB)
    image.load()
    with contextlib.suppress(Exception):  # damaged EXIF is no reason to refuse the pixels
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageError("32-bit pixels, whose black and white are unknown")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def resize(image: Image.Image, size: int) -> np.ndarray:
    """RGB image to (size, size, 3) uint8, exactly ``torchvision.transforms.Resize((s, s))``."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def dimensions(content: bytes) -> tuple[int, int]:
    """Width and height that an encoded image says it has; nothing is decoded.

    Raises
    ------
    ImageError
        If it is of no known format.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.size
    except Exception as error:  # as in decode
        raise ImageError(str(error) or type(error).__name__) from None


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image, leaving out hidden files (``._a.jpg``)."""
    return name.lower().endswith(SUFFIXES) and not name.rsplit("/", 1)[-1].startswith(".")
