"""Encoded bytes to pixels, as the protocol does it: PIL, RGB, bilinear resize without aspect.

Training, evaluation and detection all decode here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from snojoe.model.preprocessing import Preprocessing, read_resize
from snojoe.support.errors import SnojoeError

# Of the suffixes below. PIL knows more, and starts Ghostscript for some of them.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp"),
    *(".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"),
)
# With the extra heif alone.
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
# Photographs, too, of which nothing here decodes a pixel: cameras' own formats, and newer ones.
UNDECODED_SUFFIXES = (
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"),
    *(".j2k", ".jp2", ".jxl"),
)

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
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
        with _opened(source) as image:
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


def _opened(source: bytes | Path) -> Image.Image:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        if not _is_heif(source):
            raise
    if not _reads_heif():
        raise ImageError("HEIC, which takes the extra heif: pip install 'snojoe[heif]'")
    import pillow_heif

    pillow_heif.register_heif_opener()  # which turns the pixels as EXIF says
    return Image.open(file, formats=["HEIF"])


def _is_heif(source: bytes | Path) -> bool:
    """Whether it begins as HEIC does; AVIF's brand is another."""
    if isinstance(source, bytes):
        start = source[:12]
    else:
        with source.open("rb") as file:
            start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


@cache
def _reads_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


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


def to_square(image: Image.Image, made: Preprocessing) -> np.ndarray:
    """RGB image to (size, size, 3) uint8 as a network's preprocessing has it.

    Exactly torchvision's Resize and CenterCrop of PIL images.

    Raises
    ------
    ImageError
        If the image is so long that what is resized would exceed PIL's limit.
    """
    how, edge = read_resize(made.resize), made.image_size
    width, height = how.size(image.width, image.height, edge)
    if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ImageError(f"too long to be resized: {image.width} x {image.height} pixels")
    resized = image.resize((width, height), _FILTERS[how.interpolation])
    left, top = round((width - edge) / 2), round((height - edge) / 2)
    return np.asarray(resized.crop((left, top, left + edge, top + edge)))


def dimensions(content: bytes) -> tuple[int, int]:
    """Width and height that an encoded image says it has; nothing is decoded.

    Raises
    ------
    ImageError
        If it is of no known format.
    """
    try:
        with _opened(content) as image:
            return image.size
    except Exception as error:  # as in decode
        raise ImageError(str(error) or type(error).__name__) from None


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image that can be decoded, and none of a hidden file."""
    suffixes = SUFFIXES + HEIF_SUFFIXES * _reads_heif()
    return name.lower().endswith(suffixes) and not name.rsplit("/", 1)[-1].startswith(".")


def looks_like_image(path: Path) -> bool:
    """Whether a file is a photograph: by its suffix, decodable or not, or else by its content."""
    if path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix in SUFFIXES + HEIF_SUFFIXES + UNDECODED_SUFFIXES:
        return True
    if suffix or not path.is_file():
        return False
    try:
        with _opened(path):
            return True
    except ImageError:
        return True  # HEIC, which this environment does not read
    except Exception:
        return False
