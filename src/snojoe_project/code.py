"""The installed package as a dependency: for each stage, the code that it can run.

DVC cannot follow what lies outside of a project and differs from machine to machine. A stage that
it runs each time therefore writes digests of the modules, and the other stages depend on these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from snojoe.params import Params, load_params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_folder, sha256, write_text
from snojoe_project.dag import (
    CODE,
    READS_DATA,
    brought,
    check_depths,
    code_of_stages,
    data_deps,
)
from snojoe_project.originals import PACKAGES, original

_DIGITS = 16


def write_code(folder: Path) -> None:
    """Write ``code``: for each stage a file with a line for each module, ``digest  path``."""
    digests: dict[str, str] = {}
    with atomic_folder(folder / CODE) as listing:
        for stage, places in code_of_stages().items():
            lines = []
            for name, path in (found for place in places for found in _files(place)):
                if name not in digests:
                    digests[name] = sha256(path)[:_DIGITS]
                lines.append(f"{digests[name]}  {name}\n")
            write_text(listing / stage, "".join(lines))


def check_project(folder: Path) -> None:
    """Check what would otherwise fail late or go unnoticed, in a project or in a copy of it.

    Raises
    ------
    SnojoeError
        If the parameters are wrong, ``dvc.yaml`` does not name all that they bring, or this is the
        copy of a queued experiment, which has only what git or DVC tracks.
    """
    params = load_params(folder / "params.yaml")
    check_depths(params, folder / "dvc.yaml")
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in READS_DATA:
        for dep in data_deps(params, stage):
            if dep not in stages.get(stage, {}).get("deps", ()):
                raise SnojoeError(
                    f'dvc.yaml: add "{dep}" to the deps of {stage}, or let `snojoe dag` write it '
                    "anew: what it stands for could change unnoticed"
                )
    if message := untracked(params, folder, Path(os.environ.get("DVC_ROOT", folder))):
        raise SnojoeError(message)


def untracked(params: Params, here: Path, root: Path) -> str:
    """What to say of data that a checkout has and an experiment's copy has not; or nothing."""
    paths = [Path(params.data.folder, path) for _, path in brought(params)]
    missing = [str(p) for p in paths if (root / p).exists() and not (here / p).exists()]
    if not missing:
        return ""
    return (
        f"{missing[0]}: lies in {root.resolve()}, but this is the copy of a queued experiment, "
        f"which has only what git or DVC tracks. There: dvc add {' '.join(missing)}, then git "
        f"commit, and queue again"
    )


def _files(place: str) -> Iterator[tuple[str, Path]]:
    """Names and paths of the files of code in a file or folder of this repository."""
    name = place.removeprefix("src/")
    path = original(place) if name == place else PACKAGES / name
    if path.is_file():
        yield name, path
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        if file.is_file() and "__pycache__" not in parts and not file.name.startswith("."):
            yield f"{name}/{'/'.join(parts)}", file
