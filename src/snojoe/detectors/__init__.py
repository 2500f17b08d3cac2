"""Which scores are there? One file each; all are scikit-learn outlier detectors.

A score that is put into this package as a file, a class with `name`, `title`, `consumes` and
`_score`, is in `DETECTORS` and so in every table and plot. Named here are the scores of the paper,
whose order no file knows.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snojoe.detectors.registry import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Importing scikit-learn takes a second: who only reads what is stored does not wait for it."""
    if not name.startswith("_"):
        registry = import_module(f"{__name__}.registry")
        if name in registry.__all__:
            return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
