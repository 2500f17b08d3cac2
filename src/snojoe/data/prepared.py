"""What ``prepare`` writes beside the shards: the classes, and what was found in each set."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from snojoe.support.errors import SnojoeError

CLASSES = "classes.json"
REPORT = "report.json"


class PreparedSet(BaseModel):
    """What ``report.json`` says of a split or an OOD set.

    Attributes
    ----------
    images : int
        How many were written.
    positives : dict of str to int
        How many of them show each class, of a split whose images have labels.
    """

    images: int
    positives: dict[str, int] = {}


class PreparedSets(BaseModel):
    """What later steps read of ``report.json``.

    Attributes
    ----------
    id : dict of str to PreparedSet
        By split: "train", "val", "test".
    id_test_is_val : bool
        Whether the val split serves as the ID test set.
    ood : dict of str to PreparedSet
        By name.
    """

    id: dict[str, PreparedSet]
    id_test_is_val: bool
    ood: dict[str, PreparedSet]


def read_prepared_sets(prepared: Path) -> PreparedSets:
    """The sets that `prepare` wrote into `prepared`.

    Raises
    ------
    SnojoeError
        If ``report.json`` is missing or damaged.
    """
    path = prepared / REPORT
    try:
        return PreparedSets.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None


def read_classes(prepared: Path) -> list[str]:
    """Class names, in the order of the label columns."""
    names: list[str] = json.loads((prepared / CLASSES).read_text(encoding="utf-8"))
    return names
