"""The embedded data set: scenes of handwritten digits, in the formats of the real sets.

Nothing to download: scikit-learn bundles 1,797 handwritten digits (8 x 8, grey). Scenes are
composed from them as PASCAL-VOC photographs are from objects: one to three different classes each,
coloured, on a noisy background, with annotated boxes.

============ ================================ ==============================================
archive      content                          stands for
============ ================================ ==============================================
digits       scenes of the digits 0 to 6      PASCAL-VOC 2012, in-distribution
novel_digits the same scenes of 7, 8 and 9    ImageNet-22K: familiar style, unseen objects
textures     procedural textures              Texture (DTD): no objects, another style
============ ================================ ==============================================
"""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from snojoe.data.textures import colour, draw_textures
from snojoe.support.progress import progress

CLASSES = ("zero", "one", "two", "three", "four", "five", "six")
NOVEL_CLASSES = ("seven", "eight", "nine")
MIN_SIZE = 32

_ROOT = "VOCdevkit/DIGITS"
_BICUBIC = Image.Resampling.BICUBIC
# Handwriting that each split may draw from; the rest of it belongs to nobody else.
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
# Shares of the scenes with one, two and three digits. The joint energy grows with the number of
# labels, whatever they are, so that many lone digits would drown the difference that is asked for.
_COUNT_SHARES = (0.1, 0.4, 0.5)
# Edge of a digit, as a share of the scene's: at most 1/2, so that each has a quadrant to itself.
_MIN_EDGE, _MAX_EDGE = 0.42, 0.5
_MIN_OPACITY, _DIFFICULT_BELOW = 0.75, 0.77
# Grounds are dark or bright. As in subtitles, a dark outline (its opacity here) keeps the digits
# legible; without bright grounds, a network takes every bright sky for ink.
_MAX_GROUND, _OUTLINE = 0.8, 0.9
# Standard deviation of the ground's noise, by the number of grains along an edge.
_NOISE = {4: 0.1, 8: 0.05, 64: 0.02}


class Glyph(NamedTuple):
    """One handwritten digit, an 8 x 8 mask of its ink, and its number in scikit-learn's bundle."""

    number: int
    mask: Image.Image


Glyphs = Mapping[str, Sequence[Glyph]]


class Box(NamedTuple):
    """Bounding box in pixels, half-open: columns ``left .. right - 1``."""

    left: int
    top: int
    right: int
    bottom: int


class SceneObject(NamedTuple):
    """One annotated digit, and which glyph it shows."""

    name: str
    box: Box
    difficult: bool
    glyph: int


class Scene(NamedTuple):
    """A composed image and what is to be seen in it; the first object names an OOD folder."""

    image: Image.Image
    objects: list[SceneObject]


def write_digits(
    folder: Path, *, train: int, val: int, test: int, ood: int, size: int, seed: int
) -> None:
    """Write ``digits.tar``, ``novel_digits.tar`` and ``textures.tar`` into `folder`.

    ``digits.tar`` is a VOCdevkit (annotations, JPEG images, image sets), the other two hold one
    folder of JPEG images per class. No digit image serves two splits. The same arguments give the
    same bytes (with the same Pillow and numpy), and a split's scenes do not depend on how many the
    others have. Existing archives are replaced, each in one step.

    Parameters
    ----------
    folder : Path
        Where to write; created if missing.
    train, val, test : int
        Number of in-distribution scenes in each split, at least 1. From 7 on, every class has a
        positive.
    ood : int
        Number of images in each of the two out-of-distribution sets, at least 1.
    size : int
        Edge of the square images in pixels, at least 32.
    seed : int
        Seed of everything random, at least 0.

    Raises
    ------
    ValueError
        If a number is too small.
    """
    counts = {"train": train, "val": val, "test": test}
    for name, value, least in (
        *((name, count, 1) for name, count in counts.items()),
        ("ood", ood, 1),
        ("size", size, MIN_SIZE),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")

    folder.mkdir(parents=True, exist_ok=True)
    glyphs = load_glyphs()
    splits = split_glyphs({name: glyphs[name] for name in CLASSES}, seed)

    scenes: dict[str, list[Scene]] = {}
    for stream, (split, count) in enumerate(counts.items()):
        drawn = draw_scenes(splits[split], count, size, (seed, stream))
        scenes[split] = list(progress(drawn, total=count, desc=f"digits {split}"))
    _write_tar(folder / "digits.tar", _voc_members(scenes))

    novel = draw_scenes(
        {name: glyphs[name] for name in NOVEL_CLASSES}, ood, size, (seed, len(counts))
    )
    numbered = {
        f"{scene.objects[0].name}/{i:06d}.jpg": scene
        for i, scene in enumerate(progress(novel, total=ood, desc="novel_digits"), start=1)
    }
    members = {name: _jpeg(scene.image) for name, scene in numbered.items()}
    members["groups.csv"] = _groups({name: scene.objects for name, scene in numbered.items()})
    _write_tar(folder / "novel_digits.tar", members)

    textures = draw_textures(ood, size, (seed, len(counts) + 2))
    _write_tar(
        folder / "textures.tar",
        {
            f"{name}/{i:06d}.jpg": _jpeg(image)
            for i, (name, image) in enumerate(progress(textures, ood, "textures"), start=1)
        },
    )


def load_glyphs() -> dict[str, list[Glyph]]:
    """Load the handwritten digits by class name: masks of 0, paper, to 255, ink."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    masks = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return {
        name: [
            Glyph(int(i), Image.fromarray(masks[i])) for i in np.flatnonzero(digits.target == digit)
        ]
        for digit, name in enumerate(CLASSES + NOVEL_CLASSES)
    }


def split_glyphs(glyphs: Glyphs, seed: int) -> dict[str, dict[str, list[Glyph]]]:
    """Share the digit images of every class out among the splits, without overlap."""
    rng = np.random.default_rng(seed)
    splits: dict[str, dict[str, list[Glyph]]] = {split: {} for split in _SHARES}
    bounds = np.cumsum(list(_SHARES.values()))[:-1]
    for name, images in glyphs.items():
        order = rng.permutation(len(images))
        parts = np.split(order, np.round(bounds * len(images)).astype(int))
        for split, part in zip(_SHARES, parts, strict=True):
            splits[split][name] = [images[i] for i in part]
    return splits


def draw_scenes(glyphs: Glyphs, count: int, size: int, seed: tuple[int, int]) -> Iterator[Scene]:
    """Compose `count` scenes; their first classes go round, so that none stays without one."""
    rng = np.random.default_rng(seed)
    names = list(glyphs)
    for i in range(count):
        first = names[i % len(names)]
        others = [name for name in names if name != first]
        n_others = rng.choice(len(_COUNT_SHARES), p=_COUNT_SHARES)
        yield _scene(glyphs, [first, *rng.choice(others, n_others, replace=False)], size, rng)


def _scene(glyphs: Glyphs, names: list[str], size: int, rng: np.random.Generator) -> Scene:
    """Compose one scene with one digit of each of the classes `names`."""
    canvas = _ground(size, rng)
    quadrants = rng.permutation(4)[: len(names)]
    objects = []
    for name, quadrant in zip(names, quadrants, strict=True):
        edge = round(size * rng.uniform(_MIN_EDGE, _MAX_EDGE))
        corner = np.array(divmod(quadrant, 2)) * (size // 2)
        top, left = corner + rng.integers(max(size // 2 - edge, 0) + 1, size=2)
        glyph = glyphs[name][int(rng.integers(len(glyphs[name])))]
        mask = ImageOps.expand(glyph.mask, border=1)
        strokes = _enlarge(mask, edge)
        outline = _enlarge(mask.filter(ImageFilter.MaxFilter(3)), edge)
        opacity = rng.uniform(_MIN_OPACITY, 1.0)

        patch = canvas[top : top + edge, left : left + edge]
        patch *= 1.0 - _OUTLINE * outline
        patch += opacity * strokes * (colour(rng, value=1.0) - patch)

        rows, columns, _ = np.nonzero(strokes >= 0.25)
        box = Box(
            left=int(left + columns.min()),
            top=int(top + rows.min()),
            right=int(left + columns.max() + 1),
            bottom=int(top + rows.max() + 1),
        )
        objects.append(SceneObject(str(name), box, bool(opacity < _DIFFICULT_BELOW), glyph.number))
    pixels = np.round(255 * canvas.clip(0.0, 1.0)).astype(np.uint8)
    return Scene(Image.fromarray(pixels), objects)


def _ground(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a background, (size, size, 3): one colour and coloured noise of several grain sizes."""
    ground = np.tile(colour(rng, value=rng.uniform(0.0, _MAX_GROUND)), (size, size, 1))
    for grains, deviation in _NOISE.items():
        planes = rng.normal(0.0, deviation, (3, grains, grains)).astype(np.float32)
        for channel, plane in enumerate(planes):
            ground[:, :, channel] += np.asarray(
                Image.fromarray(plane).resize((size, size), _BICUBIC)
            )
    return ground


def _enlarge(mask: Image.Image, edge: int) -> np.ndarray:
    """Resize a glyph's mask: its ink in 0..1, (edge, edge, 1)."""
    return np.asarray(mask.resize((edge, edge), _BICUBIC), dtype=np.float64)[:, :, None] / 255


def _voc_members(scenes: Mapping[str, Sequence[Scene]]) -> dict[str, bytes]:
    """Lay the splits' scenes out as a VOCdevkit: path in the archive to content."""
    members: dict[str, bytes] = {}
    ids: dict[str, list[str]] = {}
    objects: dict[str, list[SceneObject]] = {}
    for split, split_scenes in scenes.items():
        ids[split] = []
        for scene in split_scenes:
            image_id = f"digits_{len(objects) + 1:06d}"
            objects[image_id] = scene.objects
            ids[split].append(image_id)
            members[f"{_ROOT}/JPEGImages/{image_id}.jpg"] = _jpeg(scene.image)
            members[f"{_ROOT}/Annotations/{image_id}.xml"] = _annotation(image_id, scene)
    members[f"{_ROOT}/groups.csv"] = _groups({f"JPEGImages/{i}.jpg": objects[i] for i in objects})
    for split, split_ids in {**ids, "trainval": ids["train"] + ids["val"]}.items():
        members[f"{_ROOT}/ImageSets/Main/{split}.txt"] = _lines(split_ids)
        for name in CLASSES:
            marks = (f"{i} {_mark(name, objects[i]):2d}" for i in split_ids)
            members[f"{_ROOT}/ImageSets/Main/{name}_{split}.txt"] = _lines(marks)
    return members


def _groups(objects: Mapping[str, Sequence[SceneObject]]) -> bytes:
    """Which scenes share a digit image, as `snojoe.data.groups` reads it."""
    named = ((name, ";".join(str(each.glyph) for each in found)) for name, found in objects.items())
    return _lines(["file,group", *(f"{name},{glyphs}" for name, glyphs in named)])


def _mark(name: str, objects: Sequence[SceneObject]) -> int:
    """VOC's mark of an image for a class: 1 present, 0 only as a difficult object, -1 absent."""
    difficult = [obj.difficult for obj in objects if obj.name == name]
    if not difficult:
        return -1
    return 0 if all(difficult) else 1


def _annotation(image_id: str, scene: Scene) -> bytes:
    """Render a scene's annotation as VOC's XML (pixel coordinates from 1, both ends included)."""
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, **children: object) -> None:
        for tag, text in children.items():
            ElementTree.SubElement(parent, tag).text = str(text)

    add(root, folder="DIGITS", filename=f"{image_id}.jpg")
    source = ElementTree.SubElement(root, "source")
    add(source, database="scikit-learn load_digits", annotation="SNoJoE DIGITS", image="composed")
    extent = ElementTree.SubElement(root, "size")
    add(extent, width=scene.image.width, height=scene.image.height, depth=3)
    add(root, segmented=0)
    for obj in scene.objects:
        node = ElementTree.SubElement(root, "object")
        add(node, name=obj.name, pose="Unspecified", truncated=0, difficult=int(obj.difficult))
        left, top, right, bottom = obj.box
        bndbox = ElementTree.SubElement(node, "bndbox")
        add(bndbox, xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root) + b"\n"


def _lines(lines: Iterator[str] | Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Without chroma subsampling: strokes are a few pixels wide and told from the ground by colour.
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a tar whose bytes depend on `members` alone; `path` is there whole or not at all."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted(members):
                info = tarfile.TarInfo(name)
                info.size = len(members[name])
                archive.addfile(info, io.BytesIO(members[name]))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
