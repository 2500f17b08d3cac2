"""Files inside archives and folders, by name.

Every file of an uncompressed tar, and every stored one of a zip, is a range of bytes of the
archive, so a file in a folder and a file in an archive are the same thing: (path, offset, size).
The images of an IDX file (MNIST's) are ranges, too, each behind the head that makes it a picture.
What is compressed is unpacked into one nameless file. Nothing is ever written to disk under a name
that an archive chose.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import posixpath
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file

_COMPRESSIONS = ("", ".gz", ".bz2", ".xz")
ARCHIVE_SUFFIXES = (
    *(f".tar{compression}" for compression in _COMPRESSIONS),
    *(".tgz", ".tbz2", ".txz", ".zip"),
)
_UNREAD_ARCHIVES = (".7z", ".rar", ".tar.zst", ".zst", ".gz", ".bz2", ".xz")

# By their first bytes, whatever an archive is called.
_OPENERS: dict[bytes, Callable[[Path], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]  # binary by default
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_IDX = b"\0\0\x08"  # of bytes; the number of dimensions follows
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")

# Photographs hardly compress: an archive that grows by more than this is a bomb.
_MAX_RATIO = 100
_CHUNK = 2**20


class Extent(NamedTuple):
    """Where the bytes of one file lie, their CRC-32 where the archive has it, and a head."""

    path: Path
    offset: int
    size: int
    crc: int | None = None
    head: bytes = b""


class Archive(Mapping[str, bytes]):
    """Names and contents of the files in an archive or a folder, sorted by name.

    In a folder, an archive counts as a folder of its stem's name: ``n02069412.tar`` holding
    ``a.jpg`` gives ``n02069412/a.jpg``. Hidden files and what systems leave behind (``._a.jpg``,
    ``__MACOSX``) are no files. Reading is safe from several threads.

    Parameters
    ----------
    path : Path
        A tar (plain, or compressed by gzip, bzip2 or xz), a zip, a folder, or images in the IDX
        format, plain or compressed.
    scratch : Path
        Folder for the unpacked copy of what is compressed; the caller removes it.

    Attributes
    ----------
    left_out : dict of str to list of str
        Names of what is there and no file, by kind: "hidden files", say.

    Raises
    ------
    SnojoeError
        If ``path`` does not exist or is not an archive, or an archive is damaged.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path = path
        self.left_out: dict[str, list[str]] = {}
        if path.is_dir():
            found = dict(self._folder(path, scratch))
        elif path.is_file():
            found = dict(self._packed(path, "", scratch))
        else:
            raise SnojoeError(f"{path}: no such archive or folder")
        self._extents = dict(sorted(found.items()))

    @property
    def name(self) -> str:
        """What the user calls it, without suffixes: a link has its own name, not its target's."""
        return stem(Path(os.path.abspath(self.path)))  # noqa: PTH100 - resolve() follows links

    def __getitem__(self, name: str) -> bytes:
        extent = self._extents[name]
        with extent.path.open("rb") as file:
            content = os.pread(file.fileno(), extent.size, extent.offset)
        if len(content) != extent.size:
            raise SnojoeError(f"{extent.path}: ends in the middle of {name}")
        if extent.crc is not None and zlib.crc32(content) != extent.crc:
            raise SnojoeError(f"{self.path}: {name} is damaged (its CRC-32 is another)")
        return extent.head + content

    def text(self, name: str) -> str:
        """Content of a text file: UTF-8, or UTF-16 that says so by its byte order mark."""
        content = self[name]
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        try:
            return content.decode("utf-16" if wide else "utf-8-sig")
        except UnicodeDecodeError:
            hint = "; Excel: save as CSV UTF-8" if name.lower().endswith(".csv") else ""
            raise SnojoeError(f"{self.path}: {name} is not UTF-8 text{hint}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    def __contains__(self, name: object) -> bool:
        return name in self._extents

    def size(self, name: str) -> int:
        """Bytes of a file, without reading it."""
        return len(self._extents[name].head) + self._extents[name].size

    def brought_twice(self) -> list[str]:
        """Names in a folder that stand for two things: a tar and a folder, or two tars."""
        paths = [path for path in self.path.rglob("*") if path.is_dir() or is_archive(path)]
        names = Counter((path.parent / stem(path)).relative_to(self.path) for path in paths)
        return sorted(name.as_posix() for name, count in names.items() if count > 1)

    def _leave(self, kind: str, name: str) -> None:
        self.left_out.setdefault(kind, []).append(name)

    def _folder(self, folder: Path, scratch: Path) -> Iterator[tuple[str, Extent]]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_dir():
                # Neither does DVC follow these: a change behind one would go unnoticed.
                if path.is_symlink() and not is_hidden(name):
                    self._leave("links to folders", name)
            elif is_hidden(name):
                self._leave("hidden files", name)
            elif not path.is_file():
                self._leave("broken links" if path.is_symlink() else "devices", name)
            elif is_archive(path):
                parent = (PurePosixPath(name).parent / stem(path)).as_posix()
                yield from self._packed(path, f"{parent}/", scratch)
            else:
                yield name, Extent(path, 0, path.stat().st_size)

    def _packed(self, path: Path, prefix: str, scratch: Path) -> Iterator[tuple[str, Extent]]:
        """Files of an archive, `prefix` before their names."""
        seen = set()
        kind = "zip" if _begins(path, *_ZIP) else "tar"
        try:
            kind = "IDX" if _begins_inside(path, _IDX) else kind
            for member, extent in _READERS[kind](path, scratch, self._leave):
                name = PurePosixPath(member).as_posix().removeprefix("/")
                if is_hidden(name):
                    self._leave("hidden files", prefix + name)
                    continue
                if name in seen:
                    raise SnojoeError(f"{path}: holds {name} more than once")
                seen.add(name)
                if is_archive(PurePosixPath(name)):
                    self._leave("archives inside an archive", prefix + name)
                else:
                    yield prefix + name, extent
        except (*_UNREADABLE, OSError) as error:
            # bz2's about damaged bytes has no number, that of a seek to nowhere this one.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise SnojoeError(
                f"{path}: not a readable {kind} archive ({error}){_advice(path)}"
            ) from None


def is_archive(path: Path | PurePosixPath) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def stem(path: Path) -> str:
    """Name of an archive without its suffixes: ``dtd-r1.0.1.tar.gz`` -> ``dtd-r1.0.1``."""
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def is_hidden(name: str) -> bool:
    """Whether people do not see it: ``._a.jpg``, ``.ipynb_checkpoints``, ``__MACOSX``, caches."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in _LEFT_BEHIND
        for part in name.split("/")
    )


_LEFT_BEHIND = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin"}


class NameFinder:
    """Files of an archive by what people and programs call them.

    A name is looked for as it is, then with the separators of Windows, with a leading ``./``, in
    another Unicode form (a Mac's), and in other capitals, where that means one file alone.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._alike: dict[str, list[str]] = {}
        for name in archive:
            self._alike.setdefault(_plain(name), []).append(name)

    def __call__(self, folder: str, name: str) -> str | None:
        """The file that `name`, from `folder` on, means; None where there is none, or several."""
        for each in (name, name.replace("\\", "/")):
            path = (PurePosixPath(folder) / each).as_posix() if each else ""
            if path in self._archive:
                return path
        alike = self._alike.get(_plain(path), [])
        return alike[0] if len(alike) == 1 else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _begins(path: Path, *starts: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(starts)


def _begins_inside(path: Path, start: bytes) -> bool:
    """Whether a file, or what is compressed in it, begins so."""
    opener = _opener(path) or Path.open
    with opener(path, "rb") as file:
        return file.read(len(start)) == start


def _opener(path: Path) -> Callable[..., IO[bytes]] | None:
    """What opens a compressed file; None of another."""
    return next((o for start, o in _OPENERS.items() if _begins(path, start)), None)


def _advice(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(".csv"):
        return ": name its folder by path, and the table by labels"
    if name.endswith(_UNREAD_ARCHIVES) and not name.endswith(ARCHIVE_SUFFIXES):
        return ": unpack it, and name the folder"
    return ""


_Leave = Callable[[str, str], None]


def _tar(path: Path, scratch: Path, leave: _Leave) -> Iterator[tuple[str, Extent]]:
    plain = _decompressed(path, scratch)
    end = plain.stat().st_size
    there: dict[str, Extent] = {}
    links: list[tuple[str, str, str]] = []
    with tarfile.open(plain, "r:") as archive:
        for member in archive:
            name = posixpath.normpath(member.name)
            if member.islnk() or member.issym():
                kind, start = ("hard", "") if member.islnk() else ("symbolic", name)
                target = posixpath.normpath(
                    posixpath.join(posixpath.dirname(start), member.linkname)
                )
                links.append((f"{kind} links to what is not in the archive", name, target))
            elif member.issparse() or not (member.isreg() or member.isdir()):
                leave("sparse files" if member.issparse() else "devices", name)
            elif member.isreg():
                if member.offset_data + member.size > end:
                    raise SnojoeError(f"{path}: ends in the middle of {member.name}")
                there[name] = Extent(plain, member.offset_data, member.size)
                yield member.name, there[name]
        _check_end(path, plain, archive.offset)
    for kind, name, target in links:
        if target in there:
            yield name, there[target]
        else:
            leave(kind, name)


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
    opener = _opener(path)
    if opener is None:
        return path
    plain = scratch / f"{stem(path)}-{path.stat().st_ino}.tar"
    if not plain.exists():
        with (
            atomic_file(plain) as temporary,
            opener(path) as source,
            temporary.open("wb") as target,
        ):
            _copy(source, target, path)
    return plain


def _copy(source: IO[bytes], target: IO[bytes], path: Path) -> None:
    """What is compressed in `path`, as long as it is no bomb."""
    limit = _MAX_RATIO * (path.stat().st_size + _CHUNK)
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        if target.tell() > limit:
            raise SnojoeError(f"{path}: a decompression bomb: grows {_MAX_RATIO} times")


def _zip(path: Path, scratch: Path, leave: _Leave) -> Iterator[tuple[str, Extent]]:
    end = path.stat().st_size
    plain = scratch / f"{stem(path)}-{path.stat().st_ino}.unpacked"
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        packed = []
        for member in archive.infolist():
            name = member.filename.replace("\\", "/")  # some programs of Windows write these
            if member.flag_bits & 1:
                raise SnojoeError(f"{path}: {name} is encrypted; unpack it, and name the folder")
            if member.is_dir() or name.endswith("/"):
                continue
            if (member.external_attr >> 28) == 0o12:
                leave("symbolic links", name)
            elif member.compress_type == zipfile.ZIP_STORED:
                offset = _stored_at(raw, member.header_offset)
                if offset + member.file_size > end:
                    raise SnojoeError(f"{path}: ends in the middle of {name}")
                yield name, Extent(path, offset, member.file_size, member.CRC)
            else:
                packed.append((name, member))
        if not packed:
            return
        extents = []
        with atomic_file(plain) as temporary, temporary.open("wb") as target:
            for name, member in packed:
                start = target.tell()
                with archive.open(member) as source:
                    _copy(source, target, path)
                extents.append((name, Extent(plain, start, target.tell() - start)))
    yield from extents


def _stored_at(raw: IO[bytes], header: int) -> int:
    """Where the bytes of a stored member begin: after its own header, whose length varies."""
    raw.seek(header)
    head = raw.read(30)
    if len(head) != 30 or not head.startswith(_ZIP[0]):
        raise zipfile.BadZipFile("a member's header is damaged")
    name, extra = struct.unpack("<HH", head[26:30])
    return header + 30 + int(name) + int(extra)


def _idx(path: Path, scratch: Path, leave: _Leave) -> Iterator[tuple[str, Extent]]:
    """Grey images of an IDX file as portable graymaps, numbered in their order."""
    plain = _decompressed(path, scratch)
    with plain.open("rb") as file:
        dimensions, count, rows, columns = struct.unpack(">3xB3I", file.read(16))
    size, there = rows * columns, plain.stat().st_size - 16
    if dimensions != 3:
        raise SnojoeError(
            f"{path}: expected images, in 3 dimensions; this IDX file has {dimensions}"
        )
    if not size or there != count * size:
        raise SnojoeError(
            f"{path}: expected {count} images of {rows} x {columns} bytes; got {there:,} bytes"
        )
    head = f"P5 {columns} {rows} 255\n".encode()
    for i in range(count):
        yield f"{i:05}.pgm", Extent(plain, 16 + i * size, size, head=head)


_READERS = {"IDX": _idx, "zip": _zip, "tar": _tar}
_UNREADABLE = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError),  # zipfile's, of methods it lacks
    *(ValueError, OverflowError),  # tarfile's, of headers that make no sense
    struct.error,
)
