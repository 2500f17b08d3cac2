"""``snojoe repro``: the stages of a project side by side, as ``make repro`` has them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from snojoe.support.errors import SnojoeError
from snojoe_project.code import write_code
from snojoe_project.dag import CODE
from snojoe_project.originals import original


def repro(jobs: int | None) -> None:
    """Become ``stages/_repro.py``, with this Python before others: it is the stages' too."""
    if not Path("dvc.yaml").exists():
        raise SnojoeError("no dvc.yaml here: expected the folder of a project; see snojoe init")
    if CODE in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]:
        write_code(Path())  # whether it changed is then seen without running a stage
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    options = [str(jobs)] if jobs else []
    os.execve(
        sys.executable,
        [sys.executable, str(original("stages/_repro.py")), *options],
        os.environ | {"PATH": path},
    )
