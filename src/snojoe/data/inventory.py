"""What is there of the data, what is missing, and what preprocess will read of it."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import NamedTuple

from snojoe.data.archives import stem
from snojoe.data.fetch import locate, partial_download
from snojoe.data.sets import Sets, positives_of, read_sets, without_positive
from snojoe.data.weights import check_network, preprocessing_hint
from snojoe.model.architectures import is_timm
from snojoe.model.weights import weights_suffix
from snojoe.params import ArchiveSource, Data, Params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import scratch_folder
from snojoe.support.text import aligned, human_size


class Item(NamedTuple):
    """A row of the table; ``obtain`` says what the user has to do, if anything."""

    set: str
    archive: str
    state: str
    size: int | None
    obtain: str = ""


def inventory(params: Params, raw: Path, downloads: Path) -> tuple[str, bool]:
    """The state of every archive; where all of ``data.id`` are there, what preprocess will read.

    Labels are read as preprocess does, and no image is decoded.

    Parameters
    ----------
    params : Params
    raw, downloads : Path
        As for ``snojoe.data.fetch.fetch``.

    Returns
    -------
    text : str
        A table, what the user has to bring, and classes with their images by split.
    complete : bool
        Whether nothing is left for the user to bring or to mend.
    """
    data = params.data
    named = [*(("id", s) for s in data.id), *((f"ood {n}", s) for n, s in data.ood.items())]
    named += [("outliers", data.outliers)] if data.outliers else []
    items = [_item(role, source, data, raw, downloads) for role, source in named]
    items += [_weights(params)]
    rows = [("set", "archive", "state", "size")]
    rows += [(i.set, i.archive, i.state, human_size(i.size) if i.size else "") for i in items]
    lines = [aligned(rows), ""]

    for item in items:
        if item.obtain:
            note = f"{item.archive}: {item.obtain}"
            lines += textwrap.wrap(note, 98, subsequent_indent="  ", break_on_hyphens=False)
    to_download = sum(i.size or 0 for i in items if i.state.startswith("download"))
    if to_download:
        lines.append(f"the download stage will fetch {human_size(to_download)}")
    if data.expected:
        images = sum(n for name, n in data.expected.images.items() if name != "train")
        pixels = images * 3 * data.image_size**2
        lines.append(
            f"preprocess will store {human_size(pixels)} of pixels and the train images as they are"
        )
    lines.append(f"free here: {human_size(shutil.disk_usage(Path.cwd()).free)}")
    complete = not any(item.obtain for item in items)
    try:
        check_network(params, _weights_there(params))
        if hint := preprocessing_hint(params):
            lines += ["", *textwrap.wrap(hint, 98, subsequent_indent="  ")]
    except SnojoeError as error:
        lines += ["", f"error: {error}"]
        complete = False

    def path_of(source: ArchiveSource) -> Path:
        return locate(source, Path(data.folder), raw)

    if all(path_of(source).exists() for source in data.id):
        ood = {name: source for name, source in data.ood.items() if path_of(source).exists()}
        expected = data.expected if len(ood) == len(data.ood) else None
        mine = data.outliers if data.outliers and path_of(data.outliers).exists() else None
        there = data.model_copy(update={"ood": ood, "expected": expected, "outliers": mine})
        try:
            with scratch_folder(raw.with_name("scratch")) as scratch:
                sets = read_sets(there, path_of, scratch)
            lines += ["", *_what_is_read(sets)]
        except SnojoeError as error:
            lines += ["", *(f"error: {line}" for line in str(error).splitlines())]
            complete = False
    return "\n".join(lines), complete


def _what_is_read(sets: Sets) -> list[str]:
    """Classes by split, images of every set, and what is worth knowing."""
    positives = {name: positives_of(sets.classes, found) for name, found in sets.splits.items()}
    rows = [("class", *sets.splits)]
    for label in sets.classes:
        rows += [(label, *(f"{positives[s][label]:,}" if positives[s] else "?" for s in positives))]
    none = [
        sum(e.labels is not None and not e.labels.any() for e in s) for s in sets.splits.values()
    ]
    if any(none):
        rows += [("(none of them)", *(f"{count:,}" for count in none))]
    rows += [("images", *(f"{len(found):,}" for found in sets.splits.values()))]
    lines = aligned(rows).splitlines()
    lines += ["", *(f"ood {name}: {len(found):,} images" for name, found in sets.ood.items())]
    lines += [f"outliers: {len(sets.outliers):,} images"] if sets.outliers else []
    empty = [without_positive(split, positives[split]) for split in ("train", "val")]
    return [*lines, *sets.notes, *(line for line in empty if line)]


def _item(role: str, source: ArchiveSource, data: Data, raw: Path, downloads: Path) -> Item:
    path = locate(source, Path(data.folder), raw)
    if source.embedded:
        return Item(role, str(path), "made here", _size(path))
    if source.url:
        return _downloaded(role, source, path, downloads)
    if not path.exists():
        obtain = source.obtain or "put it there, or correct data.folder or path"
        return Item(role, str(path), "MISSING", source.size, obtain)
    missing = _missing_classes(source, path)
    if missing:
        state = f"{len(missing)} of {len(source.classes or ())} classes MISSING"
        obtain = f"missing {', '.join(missing)}"
        return Item(role, str(path), state, _size(path), f"{obtain}; {source.obtain or ''}")
    return Item(role, str(path), "there", _size(path))


def _downloaded(role: str, source: ArchiveSource, path: Path, downloads: Path) -> Item:
    checksum = source.sha256 or ""
    finished = downloads / checksum
    partial = partial_download(downloads, checksum)
    if path.exists():
        return Item(role, str(path), "there", _size(path))
    if finished.exists():
        return Item(role, str(path), "there, waiting for the others", _size(finished))
    if partial.exists():
        state = f"download, {human_size(partial.stat().st_size)} has arrived"
        return Item(role, str(path), state, source.size)
    return Item(role, str(path), "download", source.size)


def _weights(params: Params) -> Item:
    weights = params.model.weights
    if weights is None:
        return Item("weights", "none", "random start", None)
    if weights_suffix(weights) is None:
        source = "timm" if is_timm(params.model.arch) else "torchvision"
        return Item("weights", f"{params.model.arch} {weights}", f"from {source}", None)
    path = Path(params.data.folder) / weights
    if path.is_file():
        return Item("weights", str(path), "there", _size(path))
    return Item("weights", str(path), "MISSING", None, "put it there, or correct model.weights")


def _weights_there(params: Params) -> Path | None:
    """The user's file of weights, where it has come."""
    weights = params.model.weights
    path = Path(params.data.folder) / (weights or "")
    return path if weights_suffix(weights) and path.is_file() else None


def _missing_classes(source: ArchiveSource, path: Path) -> list[str]:
    """Classes of a folder that is there; what is inside a tar is for preprocess to see."""
    if not source.classes or not path.is_dir():
        return []
    there = {stem(entry) for entry in path.rglob("*")}
    return [name for name in source.classes if name not in there]


def _size(path: Path) -> int | None:
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size if path.exists() else None
