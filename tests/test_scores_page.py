"""docs/scores.md has every score, and no other."""

import re
from pathlib import Path

from snojoe.detectors import DETECTORS

PAGE = (Path(__file__).parents[1] / "docs" / "scores.md").read_text(encoding="utf-8")
FIELDS = {"f": "logits", "z": "features", "h": "hidden"}


def test_the_table_is_complete():
    rows = re.findall(r"^\| ([^|]+) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert len(rows) == len(DETECTORS)
    assert {name: title for title, name in rows} == {
        name: detector.title for name, detector in DETECTORS.items()
    }


def test_the_table_says_what_is_read():
    for name, reads in re.findall(r"^\| [^|]+ \| `(\w+)` \| ([^|]+) \|", PAGE, flags=re.MULTILINE):
        fields = {FIELDS[array.split()[0]] for array in reads.split(", ")}
        assert fields == set(DETECTORS[name].consumes), name
