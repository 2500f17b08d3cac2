"""What git has, or is about to have: a working tree may hold a run that somebody is trying."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def committed(name: str) -> str:
    """Text of a file in git's index; of the file itself where this is no checkout."""
    shown = subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True, text=True)
    return (ROOT / name).read_text(encoding="utf-8") if shown.returncode else shown.stdout
