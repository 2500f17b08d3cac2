"""``tuning.json``: what tuning chose for one model. Read by scoring too, which loads no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_json


class Tuned(BaseModel):
    """What was chosen for one score.

    Attributes
    ----------
    eps : float
        Size of the input noise; 0 is none.
    params : dict of str to float
        Arguments of the score's detector.
    fpr95 : float
        The mean over the pseudo-OOD sets that this gave, in percent.
    """

    eps: float
    params: dict[str, float]
    fpr95: float


Tuning = dict[str, Tuned]
"""Score -> what was chosen for it; empty where nothing was tuned."""

_FILE = "tuning.json"
_TUNING: TypeAdapter[Tuning] = TypeAdapter(Tuning)


def tuning_file(folder: Path) -> Path:
    """Where `write_tuning` writes in that folder."""
    return folder / _FILE


def write_tuning(folder: Path, tuning: Tuning) -> None:
    """Write it into the folder that holds a model's outputs for the splits."""
    write_json(tuning_file(folder), _TUNING.dump_python(tuning))


def read_tuning(folder: Path) -> Tuning:
    """What `write_tuning` wrote; empty where nothing was tuned.

    Raises
    ------
    SnojoeError
        If the file is damaged.
    """
    path = tuning_file(folder)
    if not path.exists():
        return {}
    try:
        return _TUNING.validate_json(path.read_bytes())
    except ValidationError as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None
