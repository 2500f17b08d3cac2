"""Write requirements-detect.txt: of requirements.txt what `snojoe detect` and `calibrate` import.

Run after a change of requirements.txt, in `make install`'s environment on Linux.
"""

import re
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

# Of the dependencies in pyproject.toml those that detection imports: tests/test_slim_install.py.
IMPORTED = (
    *("jinja2", "numpy", "pillow", "pydantic", "pyyaml", "safetensors", "scikit-learn", "scipy"),
    *("threadpoolctl", "torch", "torchvision"),
)
HEAD = """\
# What detection imports, and what that needs in turn, as requirements.txt has it:
# python .ci/requirements_detect.py writes this file. Use it with pip install --no-deps.
"""
CUDA = """\
# CUDA, for PyTorch's usual build on Linux; a build for CPUs needs nothing from here on.
"""


def needed(roots: tuple[str, ...]) -> set[str]:
    """Names of distributions and of all that they need, as installed here."""
    seen: set[tuple[str, str]] = set()
    ahead = [(name, "") for name in roots]
    while ahead:
        name, extra = each = ahead.pop()
        if each in seen:
            continue
        seen.add(each)
        for line in requires(name) or ():
            found = Requirement(line)
            if found.marker is None or found.marker.evaluate({"extra": extra}):
                wanted = canonicalize_name(found.name)
                ahead += [(wanted, other) for other in ("", *found.extras)]
    return {name for name, _ in seen}


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Name and lines of each pinned version."""
    for found in re.finditer(r"^([\w.-]+).*\\\n(?: +--hash=.+\n)+", text, re.M):
        yield found[1], found[0]


def slim(requirements: str) -> str:
    """The content of requirements-detect.txt.

    Raises
    ------
    ValueError
        If requirements.txt lacks something.
    """
    names = needed(IMPORTED)
    kept = [(name, block) for name, block in blocks(requirements) if name in names]
    if missing := names - {name for name, _ in kept}:
        raise ValueError(f"requirements.txt: expected {', '.join(sorted(missing))}")
    parts = [(name.startswith(("cuda-", "nvidia-", "triton")), block) for name, block in kept]
    usual, cuda = ("".join(b for is_cuda, b in parts if is_cuda == each) for each in (False, True))
    return HEAD + usual + CUDA + cuda


if __name__ == "__main__":
    text = slim((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    (ROOT / "requirements-detect.txt").write_text(text, encoding="utf-8")
