"""Writing so that nothing is ever half-written, and reading so that no damage goes unnoticed.

Temporary files lie beside what they become, as ``.<name>.<host>.<process>.tmp``. What a killed
process left is removed by the next one that writes the same thing.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from snojoe.support.errors import SnojoeError

SUMS = "SHA256SUMS"

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<process>\d+)\.tmp")
_SUM = re.compile(r"(?P<sum>[0-9a-f]{64})  (?P<name>[^/]+)")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its name when the block succeeds."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that replaces it when the block succeeds."""
    with scratch_folder(path) as temporary:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` and remove it, whatever happens."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Remove the temporaries of ``path`` that a killed process of this machine left."""
    for temporary in path.parent.glob(".*.tmp"):
        _remove_if_abandoned(temporary, path.name)


def remove_all_abandoned(root: Path, folders: Iterable[str]) -> None:
    """Remove all temporaries of killed processes in ``root`` itself and anywhere in its folders."""
    found = [*root.glob(".*.tmp")]
    found += [path for name in folders for path in (root / name).rglob(".*.tmp")]
    for temporary in found:
        _remove_if_abandoned(temporary)


def _remove_if_abandoned(temporary: Path, name: str | None = None) -> None:
    match = _TEMPORARY.fullmatch(temporary.name)
    if not match or name not in (None, match["name"]) or match["host"] != _host():
        return
    process = int(match["process"])
    if process == os.getpid() or not is_alive(process):  # numbers come again
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON that diffs well: indented, newline at the end; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns under their names; at least one."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Checksum of a file, as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_alive(process: int) -> bool:
    """Whether a process of that number exists on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_sums(folder: Path) -> None:
    """Write the checksums of a folder's files into its ``SHA256SUMS``, as ``sha256sum`` does."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.name != SUMS)
    lines = [f"{sha256(path)}  {path.name}\n" for path in paths]
    write_text(folder / SUMS, "".join(lines))


def read_sums(folder: Path) -> dict[str, str]:
    """What a folder's ``SHA256SUMS`` lists: names of files and their checksums.

    Raises
    ------
    SnojoeError
        If ``SHA256SUMS`` is missing or not such a list.
    """
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise SnojoeError(
            f"{folder}: not a folder that this program wrote: {SUMS} is missing"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None
    sums = {match["name"]: match["sum"] for match in map(_SUM.fullmatch, lines) if match}
    if not sums or len(sums) != len(lines) or not all(map(str.isprintable, sums)):
        raise SnojoeError(f"{path}: not a list of checksums")
    return sums


def check_sums(folder: Path, only: Collection[str] | None = None) -> None:
    """Read a folder's files and compare them with ``SHA256SUMS``.

    Parameters
    ----------
    folder : Path
    only : collection of str, optional
        The files to look at; each has to be listed.

    Raises
    ------
    SnojoeError
        If ``SHA256SUMS`` is missing or not such a list, or a file of it is missing or damaged.
    """
    sums = read_sums(folder)
    if only is not None:
        if unlisted := {*only} - {*sums}:
            raise SnojoeError(f"{folder / min(unlisted)}: not in {SUMS}")
        sums = {name: sums[name] for name in only}

    def damage(name: str) -> str | None:
        try:
            found = sha256(folder / name)
        except OSError as error:
            return f"{folder / name}: {'is missing' if error.errno == errno.ENOENT else error}"
        return None if found == sums[name] else f"{folder / name}: damaged; {SUMS} has another sum"

    with ThreadPoolExecutor() as pool:
        wrong = [line for line in pool.map(damage, sums) if line]
    if wrong:
        raise SnojoeError("\n".join(wrong))


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name what could not be written: a full disk names nothing, a read-only one a temporary."""
    try:
        yield
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise SnojoeError(f"{path}: cannot be written: {os.strerror(error.errno)}") from None
        raise


def _temporary(path: Path) -> Path:
    remove_abandoned(path)
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")


def _host() -> str:
    return socket.gethostname().replace(".", "-") or "localhost"
