"""Where a training stands, on disk: written whole, read only if it is undamaged and the same."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from snojoe.support.files import atomic_file, remove_abandoned
from snojoe.support.processes import say
from snojoe.support.text import first_line


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
