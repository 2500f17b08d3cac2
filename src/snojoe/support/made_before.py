"""What was made before of the very same things is copied, not made again.

Depths 8 and 9 of a ResNet normalise the same weights: their models are one, to the bit, and so is
all that these say. A note, named by all that decides a result, says where it lies.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from snojoe.support.files import SUMS, sha256, write_json


def fingerprint(*parts: Any) -> str:
    """Name for everything that decides a result: parameters, files, and the code itself.

    Parameters
    ----------
    *parts : Path or anything that JSON holds
        Of a folder or file the contents count (its ``SHA256SUMS`` in their place, where a folder
        has one: who reads the files compares them with it), of anything else the value. The source
        of the program and of every module of this package that is loaded, and torch's version,
        always count.
    """
    digest = hashlib.sha256(torch.__version__.encode())
    code = ("__main__", "snojoe")
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in code]
    sources = {Path(file) for module in modules if (file := getattr(module, "__file__", None))}
    for part in [*sorted(sources), *parts]:
        if isinstance(part, Path):
            for path in _what_decides(part):
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _what_decides(part: Path) -> list[Path]:
    if (part / SUMS).exists():
        return [part / SUMS]
    return sorted(filter(Path.is_file, part.rglob("*"))) if part.is_dir() else [part]


def note(path: Path, folder: Path) -> None:
    """Remember in the file `path` that `folder` is what its name stands for, as it is now."""
    write_json(path, {"folder": str(folder.absolute()), "sums": _sums(folder)})


def copy_made_before(path: Path, target: Path, becomes: Path) -> Path:
    """Copy the folder that the note `path` names into `target`, and return where it lies.

    Parameters
    ----------
    path : Path
    target : Path
        An empty folder.
    becomes : Path
        What `target` will be: if the note names that, somebody wants it made again.

    Raises
    ------
    LookupError
        If there is no such note, or the folder is not what it was; `target` may then hold parts.
    """
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        folder, sums = Path(noted["folder"]), noted["sums"]
        if folder == becomes.absolute():
            raise LookupError(f"{path}: {folder} is to be made again")
        for name in sums:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LookupError(f"{path}: {error}") from None
    if _sums(target) != sums:
        raise LookupError(f"{path}: {folder} has changed")
    return folder


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(filter(Path.is_file, folder.rglob("*")))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}
