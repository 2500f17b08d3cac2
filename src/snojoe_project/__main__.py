"""``python -m snojoe_project STAGE``: a stage of a project, as its ``dvc.yaml`` calls it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from snojoe.support.errors import SnojoeError
from snojoe_project.dag import CODE
from snojoe_project.originals import original


def main() -> None:
    """Look at the code and the project, or become the script of a stage."""
    stage, *options = sys.argv[1:] or [""]
    if stage == CODE:
        from snojoe_project.code import check_project, write_code

        try:
            check_project(Path())
            write_code(Path())
        except SnojoeError as error:
            sys.exit(f"error: {error}")
        return
    known = sorted(path.stem for path in original("stages").glob("[!_]*.py"))
    if stage not in known:
        sys.exit(f"error: expected the name of a stage: {', '.join([CODE, *known])}; got {stage!r}")
    # The same process: DVC and its signals find the stage where they look for it.
    os.execv(sys.executable, [sys.executable, str(original(f"stages/{stage}.py")), *options])


if __name__ == "__main__":
    main()
