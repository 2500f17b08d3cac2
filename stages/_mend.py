"""Remove what DVC was killed while writing; ``make repro`` calls this before it calls DVC.

DVC empties ``dvc.lock`` before it writes it, and does not start with half a one. Nothing is lost
without it: what has run is in DVC's cache, and the next ``dvc repro`` takes it from there.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import yaml

PATIENCE = 2.0  # seconds that a living DVC may need to write the file


def main() -> None:
    for path, check in ((Path("dvc.lock"), check_lock), (Path(".dvc/tmp/rwlock"), json.loads)):
        if is_broken(path, check):
            time.sleep(PATIENCE)
            if is_broken(path, check):
                path.unlink()
                print(f"{path}: half-written by a DVC that was killed; removed")


def is_broken(path: Path, check: Callable[[str], object]) -> bool:
    """Whether the file is there and the check raises an error."""
    try:
        check(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError):
        return True
    return False


def check_lock(text: str) -> None:
    """Raise an error unless DVC can read this; stages that are missing then count as changed."""
    lock = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if lock["schema"] != "2.0":
        raise ValueError
    for stage in lock.get("stages", {}).values():
        str(stage["cmd"])
        for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
            if not {"path", "md5", "size"} <= entry.keys() or entry["hash"] != "md5":
                raise ValueError
            int(entry["size"]), int(entry.get("nfiles", 0))


if __name__ == "__main__":
    main()
