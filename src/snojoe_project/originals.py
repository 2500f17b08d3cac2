"""The files of this repository that projects are made of: in a wheel, or in the checkout itself."""

from __future__ import annotations

from pathlib import Path

# What holds the packages: src, or site-packages.
PACKAGES = Path(__file__).parents[1]

# pyproject.toml puts the files there; an editable install reads them where they are written.
_IN_A_WHEEL = Path(__file__).parent / "originals"
ORIGINALS = _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else PACKAGES.parent


def original(name: str) -> Path:
    """Path of a file or folder, such as ``dvc.yaml`` or ``stages``."""
    return ORIGINALS / name


def read_original(name: str) -> str:
    return original(name).read_text(encoding="utf-8")
