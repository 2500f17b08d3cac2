"""Where a training stands, on disk: written whole, read only if it is undamaged and the same."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from snojoe.support.files import SUMS, atomic_file, remove_abandoned
from snojoe.support.processes import say
from snojoe.support.text import first_line


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


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint. ``path.stem`` is the training's fingerprint and goes into it."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        torch.save({**state, "training": path.stem}, file)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What ``write_checkpoint`` wrote, or None where there is nothing to go on from.

    A checkpoint that is damaged or of another training is named and not used: the training then
    starts again, which costs time and changes no result.
    """
    try:
        with zipfile.ZipFile(path) as records:
            if damaged := records.testzip():  # torch does not look at the checksums
                raise ValueError(f"{damaged} has another checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.pop("training", None) != path.stem:
            raise ValueError("of another training")
    except FileNotFoundError:
        return None
    except _UNREADABLE as error:
        say(f"{path}: not a checkpoint of this training ({first_line(error)}); starting again")
        return None
    return state


def remove_checkpoint(path: Path) -> None:
    """A finished training never resumes: an edited one would have nothing left to do."""
    path.unlink(missing_ok=True)
    remove_abandoned(path)


_UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, KeyError, TypeError, AttributeError),
    *(zipfile.BadZipFile, pickle.UnpicklingError, NotImplementedError, IndexError),
)
