"""Archives to shards: what every later step reads.

``prepared/``: ``classes.json``, ``train/``, ``val/``, ``test/``, ``ood/<set>/`` and
``report.json``; and ``train/outliers/``, where there are any to train with. Training images keep
their original bytes, since crops come from the original's pixels; all others are stored as the
pixels that evaluation sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from snojoe.data.images import ImageError, decode, to_square
from snojoe.data.labelled import Example
from snojoe.data.prepared import CLASSES, REPORT
from snojoe.data.preprocessing import preprocessing_of
from snojoe.data.sets import positives_of, read_sets, without_positive
from snojoe.data.shards import Content, ShardRow, write_shards
from snojoe.params import Data
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_folder, scratch_folder, write_json
from snojoe.support.progress import progress
from snojoe.support.threads import parallel

OUTLIERS = "train/outliers"
"""Beside the train split, so that whatever depends on this depends on them."""


def prepare(
    data: Data, locate: Callable[[Any], Path], target: Path, say: Callable[[str], None] = print
) -> None:
    """Write ``target`` whole or not at all.

    Parameters
    ----------
    data : Data
        The ``data`` section of the parameters.
    locate : callable
        From a source in ``data.id``, ``data.ood`` or ``data.outliers`` to its archive or folder.
    target : Path
        Folder to create or replace.
    say : callable
        Receives a line for each set written and for each thing that a user should know.

    Raises
    ------
    SnojoeError
        Naming the archive, list, annotation, class or set that is wrong, or with a table of what
        differs from ``data.expected``.
    """
    with (
        scratch_folder(target.with_name("scratch")) as scratch,
        atomic_folder(target) as folder,
    ):
        # Every archive and list is read before the first image is decoded.
        sets = read_sets(data, locate, scratch)
        for line in sets.notes:
            say(line)

        write_json(folder / CLASSES, sets.classes)
        writer = _Writer(data, folder, say)
        report: dict[str, Any] = {
            "id": {
                split: {
                    "lists": getattr(data.splits, split),
                    **writer.write(split, examples, sets.classes),
                }
                for split, examples in sets.splits.items()
            },
            "id_test_is_val": data.test_is_val,
            "ood": {
                name: {
                    **writer.write(f"ood/{name}", found),
                    "identical": sets.identical[name],
                    "known": [each._asdict() for each in sets.known[name]],
                }
                for name, found in sets.ood.items()
            },
        }
        if sets.outliers:
            report["outliers"] = writer.write(OUTLIERS, sets.outliers)
        write_json(folder / REPORT, report)
        for split in ("train", "val"):
            if empty := without_positive(split, report["id"][split]["positives"]):
                say(empty)


class _Writer:
    """Decodes examples in parallel and writes those that decode."""

    def __init__(self, data: Data, folder: Path, say: Callable[[str], None]) -> None:
        self.data = data
        self.made = preprocessing_of(data)
        self.folder = folder
        self.say = say

    def write(
        self, split: str, examples: Sequence[Example], classes: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """What was written and left out; of the given classes, how many images are positive."""
        content: Content = "image" if split in ("train", OUTLIERS) else "pixels"
        kept: list[Example] = []
        bad: list[str] = []
        allowed = int(self.data.max_bad_share * len(examples))

        def encode(example: Example) -> ShardRow | str:
            encoded = example.image[example.image_name]
            try:
                pixels = to_square(decode(encoded), self.made)
            except ImageError as error:
                return f"{example.image.path}: {example.image_name} ({error})"
            kept = encoded if content == "image" else pixels.tobytes()
            return ShardRow(example.id, kept, example.labels, example.groups)

        def rows() -> Iterator[ShardRow]:
            done = parallel(encode, examples)
            results = progress(done, total=len(examples), desc=split)
            for example, row in zip(examples, results, strict=True):
                if isinstance(row, ShardRow):
                    kept.append(example)
                    yield row
                    continue
                bad.append(row)
                if len(bad) > allowed:
                    shown = "\n  ".join(bad[:10])
                    raise SnojoeError(
                        f"{split}: more than {self.data.max_bad_share:.1%} of {len(examples)} "
                        f"images do not decode (data.max_bad_share):\n  {shown}"
                    )

        size = self.data.image_size
        count = write_shards(
            self.folder / split,
            rows(),
            split=split,
            content=content,
            image_size=size,
            made=self.made,
        )
        self.say(f"{split}: {count:,} images")
        for line in bad:
            self.say(f"{split}: left out, it does not decode: {line}")
        positives = {"positives": positives_of(classes, kept)} if classes else {}
        return {"images": count, "undecodable": bad, **positives}
