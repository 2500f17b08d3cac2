"""Shards: the form in which images are stored between preprocessing and the network.

Columns: ``id``, ``split``, ``labels`` (uint8 per class, or null where unlabelled), ``groups``
(names of what an image shares with others, mostly none), and either ``image`` (the original encoded
bytes, for training crops) or ``pixels`` (raw RGB of the evaluation size, row-major H x W x 3:
lossless, and nothing is left to decode).

Encoded images are read in any order, and lie in Arrow files (uncompressed IPC): these are mapped
into memory, so that the page cache is all that holds them, once for all processes. Pixels are read
in order or a few at a time, and lie in Parquet files, each page of which has its checksum.
"""

from __future__ import annotations

import contextlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from snojoe.data.images import ImageError, decode, to_square
from snojoe.model.preprocessing import Preprocessing, preprocessing, read_resize
from snojoe.support.errors import SnojoeError
from snojoe.support.files import SUMS, check_sums, read_sums, write_sums

ROWS_PER_SHARD = 1024
ROWS_PER_GROUP = 64

Content = Literal["image", "pixels"]

_SUFFIXES: dict[Content, str] = {"image": ".arrow", "pixels": ".parquet"}


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
    """Write rows to ``folder/00000.arrow`` or ``.parquet`` and so on, and checksums beside them.

    Memory does not grow with the number of rows, which is returned. What is not the protocol's
    preprocessing stands in ``made``.
    """
    described: dict[str, Any] = {"image_size": image_size}
    if made not in (None, preprocessing(image_size)):
        described["preprocessing"] = made.model_dump(mode="json")
    metadata = {"snojoe": json.dumps(described)}
    schema = _schema(content).with_metadata(metadata)
    folder.mkdir(parents=True, exist_ok=True)
    writer: Any = None
    group: list[ShardRow] = []
    count = 0

    def flush() -> None:
        nonlocal writer
        if writer is None:
            number = (count - 1) // ROWS_PER_SHARD
            writer = _writer(folder / f"{number:05d}{_SUFFIXES[content]}", schema)
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


def _writer(path: Path, schema: pa.Schema) -> Any:
    if path.suffix == _SUFFIXES["image"]:
        return pa.ipc.new_file(str(path), schema)
    return pq.ParquetWriter(
        path, schema, compression="none", use_dictionary=False, write_page_checksum=True
    )


class Shards:
    """The rows of a folder of shards.

    Parameters
    ----------
    folder : Path
    whole : bool
        Whether to read every file now and to compare it with ``SHA256SUMS``. If not, for one who
        wants few pixels, what is read is compared with the checksums that Parquet keeps of each
        page of a column: damage to other rows goes unnoticed. Arrow keeps none.

    Raises
    ------
    SnojoeError
        If the folder holds no shard, or one is damaged or of another layout.
    """

    def __init__(self, folder: Path, *, whole: bool = True) -> None:
        self.folder = folder
        names = [name for name in read_sums(folder) if name.endswith(tuple(_SUFFIXES.values()))]
        if whole or any(name.endswith(_SUFFIXES["image"]) for name in names):
            check_sums(folder)
        self.paths = [folder / name for name in names]
        if not self.paths:
            raise SnojoeError(f"{folder}: expected Arrow or Parquet shards; found none")
        there = {path for suffix in _SUFFIXES.values() for path in folder.glob(f"*{suffix}")}
        if unknown := there - {*self.paths}:
            raise SnojoeError(f"{min(unknown)}: not in {SUMS}")
        self._files = [_open(path) for path in self.paths]
        schema = self._files[0].schema
        try:
            described = json.loads(schema.metadata[b"snojoe"])
            self.image_size = int(described["image_size"])
            self.preprocessing = _preprocessing(described)
        except (KeyError, TypeError, ValueError):
            raise SnojoeError(f"{self.paths[0]}: not a shard of this program") from None
        self.content: Content = "pixels" if "pixels" in schema.names else "image"
        if self.paths[0].suffix == ".parquet" and schema.equals(_schema("image")):
            raise SnojoeError(
                f"{folder}: encoded images in Parquet files, as an earlier version stored them; "
                "expected Arrow files (preprocess writes them)"
            )
        for path, file in zip(self.paths, self._files, strict=True):
            same = path.suffix == _SUFFIXES[self.content]
            same = same and file.schema.metadata == schema.metadata
            if not same or not file.schema.equals(_schema(self.content)):
                columns = ", ".join(f"{c.name} {c.type}" for c in file.schema)
                raise SnojoeError(f"{path}: not a shard of this program (columns {columns})")

    def __len__(self) -> int:
        return sum(file.rows for file in self._files)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """The given columns of all rows; of pixels in memory, of encoded images in their files."""
        parts = []
        for path, file in zip(self.paths, self._files, strict=True):
            with _damage_named(path):
                parts.append(file.table(columns))
        return pa.concat_tables(parts)

    def encoded(self) -> EncodedImages:
        """The encoded images.

        Raises
        ------
        SnojoeError
            If these are shards of pixels.
        """
        if self.content != "image":
            raise SnojoeError(f"{self.folder}: expected original images; found pixels")
        return EncodedImages(self.paths)

    def labels(self) -> np.ndarray | None:
        """(n, K) uint8, or None where the rows carry none."""
        return self._labels(self.table(["labels"])["labels"])

    def groups(self) -> list[list[str]]:
        """Names of what each image shares with others."""
        groups: list[list[str]] = self.table(["groups"])["groups"].to_pylist()
        return groups

    def batch_count(self, batch_size: int) -> int:
        """Number of `batches`: each file ends one."""
        return sum(-(-file.rows // batch_size) for file in self._files)

    def batches(self, batch_size: int, first: int = 0, step: int = 1) -> Iterator[Batch]:
        """Stream rows as pixels of the evaluation size, in order.

        Every `step`-th batch from the one numbered `first` on; what is left out is not read.
        """
        number = 0
        for path, file in zip(self.paths, self._files, strict=True):
            starts = range(0, file.rows, batch_size)
            own = [
                (start, min(start + batch_size, file.rows))
                for start in starts[(first - number) % step :: step]
            ]
            number += len(starts)
            yield from self._slices(path, file, own)

    def pixels(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Pixels of the given rows, which ascend: (n, H, W, 3); other row groups stay unread."""
        parts = []
        first = 0
        for path, file in zip(self.paths, self._files, strict=True):
            inside = rows[(rows >= first) & (rows < first + file.rows)] - first
            wanted = [
                (start, stop)
                for start, stop in pairwise(file.bounds)
                if ((inside >= start) & (inside < stop)).any()
            ]
            for (start, stop), batch in zip(wanted, self._slices(path, file, wanted), strict=True):
                parts.append(batch.pixels[inside[(inside >= start) & (inside < stop)] - start])
            first += file.rows
        return np.concatenate(parts)

    def _slices(
        self, path: Path, file: _ArrowFile | _ParquetFile, bounds: Sequence[tuple[int, int]]
    ) -> Iterator[Batch]:
        slices = file.slices(bounds)
        for _ in bounds:
            with _damage_named(path):
                batch = self._batch(next(slices))
            yield batch

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
        counts, values = pc.list_value_length(column).unique(), pc.list_flatten(column)
        if len(counts) != 1 or values.null_count or not set(values.unique().to_pylist()) <= {0, 1}:
            raise SnojoeError(f"{self.folder}: expected a 0 or 1 per class in each row's labels")
        # A copy: Arrow's buffer is read-only.
        return np.asarray(values, np.uint8).reshape(len(column), counts[0].as_py()).copy()


class EncodedImages:
    """The encoded images of Arrow files, in order, mapped into memory.

    What is read stays in the page cache, which all processes share, for as long as there is room;
    no memory of this process holds it. Pickled it is the names of its files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        chunks = [chunk for path in paths for chunk in _ArrowFile(path).table(["image"])[0].chunks]
        self._column = pa.chunked_array(chunks, pa.binary())

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: int) -> bytes:
        """A copy of the bytes of an image."""
        image: bytes = self._column[index].as_py()
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.paths,)


class _ArrowFile:
    """Rows of encoded images, in place."""

    def __init__(self, path: Path) -> None:
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._table.validate(full=True)  # offsets and names: it reads no image
        self.schema = self._table.schema
        self.rows = len(self._table)
        self.bounds = [0, *accumulate(len(batch) for batch in self._table.to_batches())]

    def table(self, columns: Sequence[str]) -> pa.Table:
        return self._table.select(list(columns))

    def slices(self, bounds: Iterable[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
        """The rows from each start on to each stop."""
        for start, stop in bounds:
            yield _joined(self._table.slice(start, stop - start))


class _ParquetFile:
    """Rows of pixels, a row group at a time; the file is open while it is read alone.

    A set of a million images has a thousand files, and a process may open no more by default.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self.schema = file.schema_arrow
            metadata = file.metadata
        groups = (metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        self.rows = metadata.num_rows
        self.bounds = [0, *accumulate(groups)]

    def table(self, columns: Sequence[str]) -> pa.Table:
        with self._opened() as file:
            return _complete(file.read(columns=list(columns)), self.rows)

    def slices(self, bounds: Iterable[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
        """The rows from each start on to each stop; what is smaller than a row group shares it."""
        read, table = range(0), pa.table({})
        with self._opened() as file:
            for start, stop in bounds:
                first, last = bisect_right(self.bounds, start) - 1, bisect_left(self.bounds, stop)
                offset = self.bounds[first]
                if read != range(first, last):
                    read, table = range(first, last), pa.table({})  # let go of it before the next
                    table = file.read_row_groups(list(read))
                    _complete(table, self.bounds[last] - offset)
                yield _joined(table.slice(start - offset, stop - start))

    def _opened(self) -> Any:
        # Without buffers ahead, which it would keep until it is closed.
        return pq.ParquetFile(self._path, page_checksum_verification=True, pre_buffer=False)


def _joined(table: pa.Table) -> pa.RecordBatch:
    (records,) = table.combine_chunks().to_batches()
    return records


def _complete(table: pa.Table, rows: int) -> pa.Table:
    if len(table) != rows:  # a page's checksum does not cover its header
        raise pa.ArrowInvalid("rows are missing")
    return table


def _open(path: Path) -> _ArrowFile | _ParquetFile:
    with _damage_named(path):
        return _ArrowFile(path) if path.suffix == _SUFFIXES["image"] else _ParquetFile(path)


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ImageError) as error:
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
