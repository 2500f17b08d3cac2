"""Files inside tar archives and folders, by name and without unpacking.

Every file of an uncompressed tar is a range of bytes of the archive, so a file in a folder and a
file in an archive are the same thing: (path, offset, size). Nothing is ever written to disk under
a name that an archive chose.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

# Photographs hardly compress: a .tar.gz that grows by more than this is a bomb.
_MAX_RATIO = 100
_CHUNK = 2**20


class Extent(NamedTuple):
    """Where the bytes of one file lie."""

    path: Path
    offset: int
    size: int


class Archive(Mapping[str, bytes]):
    """Names and contents of the files in a tar archive or a folder, sorted by name.

    In a folder, a tar counts as a folder of its stem's name: ``n02069412.tar`` holding
    ``a.jpg`` gives ``n02069412/a.jpg``. Reading is safe from several threads.

    Parameters
    ----------
    path : Path
        A ``.tar``, ``.tar.gz`` or ``.tgz`` file, or a folder.
    scratch : Path
        Folder for the unpacked copy of a compressed archive; the caller removes it.

    Raises
    ------
    SnojoeError
        If ``path`` does not exist or is not an archive, or an archive is damaged.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path = path
        if path.is_dir():
            found = dict(_folder(path, scratch))
        elif path.is_file():
            found = dict(_tar(path, scratch))
        else:
            raise SnojoeError(f"{path}: no such archive or folder")
        self._extents = dict(sorted(found.items()))

    def __getitem__(self, name: str) -> bytes:
        extent = self._extents[name]
        with extent.path.open("rb") as file:
            content = os.pread(file.fileno(), extent.size, extent.offset)
        if len(content) != extent.size:
            raise SnojoeError(f"{extent.path}: ends in the middle of {name}")
        return content

    def text(self, name: str) -> str:
        """Content of a text file, UTF-8 with or without a byte order mark."""
        try:
            return self[name].decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SnojoeError(f"{self.path}: {name} is not UTF-8 text") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    def size(self, name: str) -> int:
        """Bytes of a file, without reading it."""
        return self._extents[name].size

    def brought_twice(self) -> list[str]:
        """Names in a folder that stand for two things: a tar and a folder, or two tars."""
        paths = [path for path in self.path.rglob("*") if path.is_dir() or is_tar(path)]
        names = Counter((path.parent / stem(path)).relative_to(self.path) for path in paths)
        return sorted(name.as_posix() for name, count in names.items() if count > 1)


def is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR_SUFFIXES)


def stem(path: Path) -> str:
    """Name of an archive without its suffixes: ``dtd-r1.0.1.tar.gz`` -> ``dtd-r1.0.1``."""
    for suffix in sorted(TAR_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def _folder(folder: Path, scratch: Path) -> Iterator[tuple[str, Extent]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if is_tar(path):
            parent = PurePosixPath(name).parent / stem(path)
            for member, extent in _tar(path, scratch):
                yield (parent / member).as_posix(), extent
        else:
            yield name, Extent(path, 0, path.stat().st_size)


def _tar(path: Path, scratch: Path) -> Iterator[tuple[str, Extent]]:
    try:
        plain = _decompressed(path, scratch)
        end = plain.stat().st_size
        seen = set()
        with tarfile.open(plain, "r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > end:
                    raise SnojoeError(f"{path}: ends in the middle of {member.name}")
                name = PurePosixPath(member.name).as_posix().removeprefix("/")
                if name in seen:
                    raise SnojoeError(f"{path}: holds {name} more than once")
                seen.add(name)
                yield name, Extent(plain, member.offset_data, member.size)
            _check_end(path, plain, archive.offset)
    except _UNREADABLE as error:
        raise SnojoeError(f"{path}: not a readable tar archive ({error})") from None


def _check_end(path: Path, plain: Path, offset: int) -> None:
    """Refuse a tar with anything but zeros after its last member.

    tarfile takes a damaged header in the middle for the end of the archive.
    """
    with plain.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK):
            if chunk.strip(b"\0"):
                raise SnojoeError(f"{path}: not a readable tar archive (damaged at byte {offset})")


def _decompressed(path: Path, scratch: Path) -> Path:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    status = path.stat()
    plain = scratch / f"{stem(path)}-{status.st_ino}.tar"
    if not plain.exists():
        with (
            atomic_file(plain) as temporary,
            gzip.open(path) as source,
            temporary.open("wb") as target,
        ):
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                if target.tell() > _MAX_RATIO * (status.st_size + _CHUNK):
                    raise SnojoeError(f"{path}: a decompression bomb: grows {_MAX_RATIO} times")
    return plain


_UNREADABLE = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
    *(ValueError, OverflowError),  # tarfile's, of headers that make no sense
)
