"""Parquet shards: the form in which images are stored between preprocessing and the network.

Columns: ``id``, ``split``, ``labels`` (uint8 per class, or null where unlabelled), ``groups``
(names of what an image shares with others, mostly none), and either ``image`` (the original encoded
bytes, for training crops) or ``pixels`` (raw RGB of the evaluation size, row-major H x W x 3:
lossless, and nothing is left to decode).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snojoe.data.images import ImageError, decode, to_square
from snojoe.model.preprocessing import Preprocessing, preprocessing, read_resize
from snojoe.support.errors import SnojoeError
from snojoe.support.files import SUMS, check_sums, read_sums, write_sums

ROWS_PER_SHARD = 1024
ROWS_PER_GROUP = 64

Content = Literal["image", "pixels"]


class ShardRow(NamedTuple):
    """One image: its id, encoded bytes or pixels (`Content`), labels (K,) if any, and groups."""

    id: str
    content: bytes
    labels: np.ndarray | None
    groups: Sequence[str] = ()


class Batch(NamedTuple):
    """Consecutive rows: ids (n,), pixels (n, H, W, 3) uint8, labels (n, K) uint8 or None."""

    ids: list[str]
    pixels: np.ndarray
    labels: np.ndarray | None


def write_shards(
    folder: Path,
    rows: Iterable[ShardRow],
    *,
    split: str,
    content: Content,
    image_size: int,
    made: Preprocessing | None = None,
) -> int:
    """Write rows to ``folder/00000.parquet`` and so on, and their checksums beside them.

    Memory does not grow with the number of rows, which is returned. What is not the protocol's
    preprocessing stands in ``made``.
    """
    described: dict[str, Any] = {"image_size": image_size}
    if made not in (None, preprocessing(image_size)):
        described["preprocessing"] = made.model_dump(mode="json")
    metadata = {"snojoe": json.dumps(described)}
    schema = _schema(content).with_metadata(metadata)
    folder.mkdir(parents=True, exist_ok=True)
    writer: pq.ParquetWriter | None = None
    group: list[ShardRow] = []
    count = 0

    def flush() -> None:
        nonlocal writer
        if writer is None:
            path = folder / f"{(count - 1) // ROWS_PER_SHARD:05d}.parquet"
            writer = pq.ParquetWriter(
                path, schema, compression="none", use_dictionary=False, write_page_checksum=True
            )
        columns = [
            [row.id for row in group],
            [split] * len(group),
            [row.labels for row in group],
            [row.groups for row in group],
            [row.content for row in group],
        ]
        writer.write_table(pa.table(columns, schema=schema))
        group.clear()

    try:
        for row in rows:
            group.append(row)
            count += 1
            if len(group) == ROWS_PER_GROUP:
                flush()
            if count % ROWS_PER_SHARD == 0 and writer is not None:
                writer.close()
                writer = None
        if group:
            flush()
    finally:
        if writer is not None:
            writer.close()
    write_sums(folder)
    return count


class Shards:
    """The rows of a folder of shards.

    Parameters
    ----------
    folder : Path
    whole : bool
        Whether to read every file now and to compare it with ``SHA256SUMS``. If not, for one who
        wants few rows, what is read is compared with the checksums that Parquet keeps of each page
        of a column: damage to other rows goes unnoticed.

    Raises
    ------
    SnojoeError
        If the folder holds no shard, or one is damaged or of another layout.
    """

    def __init__(self, folder: Path, *, whole: bool = True) -> None:
        self.folder = folder
        if whole:
            check_sums(folder)
        self.paths = [folder / name for name in read_sums(folder) if name.endswith(".parquet")]
        if not self.paths:
            raise SnojoeError(f"{folder}: expected Parquet shards; found none")
        if unknown := {*folder.glob("*.parquet")} - {*self.paths}:
            raise SnojoeError(f"{min(unknown)}: not in {SUMS}")
        self._files = [_open(path) for path in self.paths]
        schema = self._files[0].schema_arrow
        try:
            described = json.loads(schema.metadata[b"snojoe"])
            self.image_size = int(described["image_size"])
            self.preprocessing = _preprocessing(described)
        except (KeyError, TypeError, ValueError):
            raise SnojoeError(f"{self.paths[0]}: not a shard of this program") from None
        self.content: Content = "pixels" if "pixels" in schema.names else "image"
        for path, file in zip(self.paths, self._files, strict=True):
            same_size = file.schema_arrow.metadata == schema.metadata
            if not same_size or not file.schema_arrow.equals(_schema(self.content)):
                columns = ", ".join(f"{c.name} {c.type}" for c in file.schema_arrow)
                raise SnojoeError(f"{path}: not a shard of this program (columns {columns})")

    def __len__(self) -> int:
        return sum(file.metadata.num_rows for file in self._files)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """The given columns of all rows, in memory."""
        try:
            table = pa.concat_tables(file.read(columns=list(columns)) for file in self._files)
        except (pa.ArrowException, OSError) as error:
            raise SnojoeError(f"{self.folder}: damaged shard ({error})") from None
        if len(table) != len(self):  # a page's checksum does not cover its header
            raise SnojoeError(f"{self.folder}: damaged shard (rows are missing)")
        return table

    def labels(self) -> np.ndarray | None:
        """(n, K) uint8, or None where the rows carry none."""
        return self._labels(self.table(["labels"])["labels"])

    def groups(self) -> list[list[str]]:
        """Names of what each image shares with others."""
        groups: list[list[str]] = self.table(["groups"])["groups"].to_pylist()
        return groups

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Stream all rows as pixels of the evaluation size, in order."""
        for path, file in zip(self.paths, self._files, strict=True):
            try:
                for records in file.iter_batches(batch_size):
                    yield self._batch(records)
            except (pa.ArrowException, OSError, ImageError) as error:
                raise SnojoeError(f"{path}: damaged shard ({error})") from None

    def pixels(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Pixels of the given rows, which ascend: (n, H, W, 3); other row groups stay unread."""
        parts = []
        start = 0
        for path, file in zip(self.paths, self._files, strict=True):
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                inside = rows[(rows >= start) & (rows < end)]
                if inside.size:
                    try:
                        table = file.read_row_group(group).combine_chunks()
                    except (pa.ArrowException, OSError) as error:
                        raise SnojoeError(f"{path}: damaged shard ({error})") from None
                    if len(table) != end - start:
                        raise SnojoeError(f"{path}: damaged shard (rows are missing)")
                    (records,) = table.to_batches()
                    parts.append(self._batch(records).pixels[inside - start])
                start = end
        return np.concatenate(parts)

    def _batch(self, records: pa.RecordBatch) -> Batch:
        side = self.image_size
        column = records[self.content]
        if self.content == "pixels":
            # The rows lie side by side. A copy: Arrow's buffer is read-only.
            _, offsets, values = column.buffers()
            ends = np.frombuffer(offsets, dtype=np.int32)[column.offset :][: len(column) + 1]
            if column.null_count or (np.diff(ends) != side * side * 3).any():
                raise SnojoeError(f"{self.folder}: expected {side} x {side} pixels in each row")
            count = len(column) * side * side * 3
            pixels = np.frombuffer(values, dtype=np.uint8, count=count, offset=ends[0]).copy()
            pixels = pixels.reshape(len(column), side, side, 3)
        else:
            images = (decode(content.as_py() or b"") for content in column)
            pixels = np.stack([to_square(image, self.preprocessing) for image in images])
        return Batch(records["id"].to_pylist(), pixels, self._labels(records["labels"]))

    def _labels(self, column: pa.ChunkedArray | pa.Array) -> np.ndarray | None:
        if column.null_count:
            return None
        rows = column.to_pylist()
        if len({len(row) for row in rows}) != 1 or not set().union(*rows) <= {0, 1}:
            raise SnojoeError(f"{self.folder}: expected a 0 or 1 per class in each row's labels")
        return np.array(rows, dtype=np.uint8)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise SnojoeError(f"{path}: damaged shard ({error})") from None


def _preprocessing(described: dict[str, Any]) -> Preprocessing:
    if "preprocessing" not in described:
        return preprocessing(int(described["image_size"]))
    made = Preprocessing.model_validate_json(json.dumps(described["preprocessing"]))
    read_resize(made.resize)
    return made


def _schema(content: Content) -> pa.Schema:
    return pa.schema(
        [
            ("id", pa.string()),
            ("split", pa.string()),
            ("labels", pa.list_(pa.uint8())),
            ("groups", pa.list_(pa.string())),
            (content, pa.binary()),
        ]
    )
