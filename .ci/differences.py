"""Fail where a run changed what is committed, and say by how much: python .ci/differences.py."""

import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXTS = (".csv", ".json", ".md")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True, errors="replace"
    )
    return done.stdout


def largest_difference(before: str, after: str) -> str:
    """The two numbers, in the same place of a text, that are furthest apart."""
    if NUMBER.sub("", before) != NUMBER.sub("", after):
        return "other text"
    pairs = list(zip_longest(NUMBER.findall(before), NUMBER.findall(after)))
    old, new = max(pairs, key=lambda pair: abs(float(pair[0]) - float(pair[1])))
    return f"at most {old} -> {new}, {sum(old != new for old, new in pairs)} numbers differ"


def main() -> None:
    changed = git("status", "--porcelain").splitlines()
    for line in changed:
        kind, name = line[:2], line[3:]
        how = ""
        if kind.strip() == "M" and Path(name).suffix in TEXTS:
            how = largest_difference(git("show", f"HEAD:{name}"), (ROOT / name).read_text())
        print(f"{kind} {name}  {how}".rstrip())
    sys.exit(f"{len(changed)} files are not as they are committed" if changed else 0)


if __name__ == "__main__":
    main()
