"""``snojoe repro``: the stages of a project side by side, as ``make repro`` has them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from snojoe.support.errors import SnojoeError
from snojoe_project.code import check_project, write_code
from snojoe_project.dag import is_project
from snojoe_project.originals import original


def repro(jobs: int | None) -> None:
    """Become ``stages/_repro.py``, with this Python before others: it is the stages' too."""
    dag = Path("dvc.yaml")
    if not dag.exists():
        raise SnojoeError("no dvc.yaml here: expected the folder of a project; see snojoe init")
    if is_project(dag):
        check_project(Path())  # DVC does not start where dvc.yaml has depths that are not there
        write_code(Path())  # whether it changed is then seen without running a stage
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    options = [str(jobs)] if jobs else []
    os.execve(
        sys.executable,
        [sys.executable, str(original("stages/_repro.py")), *options],
        os.environ | {"PATH": path},
    )
