import contextlib
import io

import numpy as np
import pytest
from conftest import jpeg
from PIL import ExifTags, Image

from snojoe.data import images
from snojoe.data.images import ImageError, decode, is_image, looks_like_image, to_square
from snojoe.model.preprocessing import preprocessing

TEAL = (0, 128, 128)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "I;16", "1"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_kind_of_image_becomes_rgb(mode, kind):
    assert decode(encoded(Image.new(mode, (5, 3)), kind)).mode == "RGB"


def test_cmyk_keeps_its_colours():
    pixels = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    np.testing.assert_allclose(pixels.getpixel((4, 4)), (255, 0, 0), atol=4)


def test_transparency_lies_on_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (0, 255, 51)
    seen = np.asarray(decode(encoded(Image.fromarray(pixels))))
    assert seen[0].tolist() == [[255] * 3, [0] * 3, [204] * 3]
    grey = Image.fromarray(np.array([[7, 9]], np.uint8)).convert("P")
    seen = np.asarray(decode(encoded(grey, transparency=7)))
    assert seen[0].tolist() == [[255] * 3, [9] * 3]


def test_16_bit_grey_keeps_its_shades():
    grey = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    for kind in ("PNG", "TIFF"):
        assert np.asarray(decode(encoded(grey, kind)))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_range_are_refused(mode):
    with pytest.raises(ImageError, match="32-bit pixels"):
        decode(encoded(Image.new(mode, (5, 3)), "TIFF"))


def heic(image, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    return encoded(image, "HEIF", quality=100, **options)


def test_heic_is_read_with_its_orientation():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48] = TEAL
    seen = np.asarray(decode(heic(Image.fromarray(pixels), exif=exif.tobytes())))
    assert seen.shape == (96, 64, 3)
    np.testing.assert_allclose(seen[10, 30], TEAL, atol=8)
    np.testing.assert_allclose(seen[80, 30], 0, atol=8)


def test_heic_without_the_extra_says_what_to_install(monkeypatch, tmp_path):
    content = heic(Image.new("RGB", (64, 64)))
    monkeypatch.setattr(images, "_reads_heif", lambda: False)
    with pytest.raises(ImageError, match=r"extra heif: pip install 'snojoe\[heif\]'"):
        decode(content)
    (tmp_path / "IMG_1").write_bytes(content)
    assert looks_like_image(tmp_path / "IMG_1")
    assert not is_image("IMG_1.HEIC")


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the camera was turned: rotate by 90 degrees
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    seen = np.asarray(decode(encoded(image, exif=exif)))
    assert seen[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored():
    content = jpeg()
    damaged = content[:2] + b"\xff\xe1\x00\x10Exif\x00\x00MM\x00\x2a\xff\xff\xff" + content[2:]
    assert decode(damaged).tobytes() == decode(content).tobytes()


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (TEAL, "red", "blue")]
    for kind in ("GIF", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_allclose(decode(content).getpixel((1, 1)), TEAL, atol=2)


@pytest.mark.parametrize("size", [(1, 1), (30_000, 10), (10, 30_000)])
def test_odd_shapes_are_images_too(size):
    image = decode(encoded(Image.new("RGB", size, TEAL)))
    assert (to_square(image, preprocessing(16)) == TEAL).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<html></html>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (jpeg()[:-200], "truncated"),
        (encoded(Image.new("RGB", (50, 50)))[:60], "truncated|broken"),
    ],
)
def test_what_does_not_decode_says_why(content, message, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ImageError, match=message):
            decode(source)


def test_a_missing_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="No such file or directory"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("limit", [1000, 400])  # PIL warns of the first and refuses the second
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageError, match="decompression bomb"):
        decode(jpeg())


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_damaged_bytes_raise_nothing_but_image_errors(kind):
    rng = np.random.default_rng(0)
    content = bytearray(encoded(Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)), kind))
    for _ in range(200):
        damaged = content.copy()
        for at in rng.integers(len(content), size=3):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(ImageError):
            assert decode(bytes(damaged)).mode == "RGB"


def test_hidden_files_and_other_suffixes_are_no_images():
    assert is_image("a/B.JPG")
    assert is_image("b.gif")
    assert not is_image("a/._b.jpg")
    assert not is_image("notes.txt")
