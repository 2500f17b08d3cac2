"""A project's ``params.yaml``: this repository's text with other values, and why these."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

import yaml

from snojoe_project.choose import Choice
from snojoe_project.originals import read_original

_HEAD = """\
# Made by `snojoe init` from what it found: values to begin with. Each is explained here, and
# `dvc exp run -S train.epochs=20` tries another.
#
# In the form in which that command writes this file: it changes one line and loses nothing.
"""
_WIDTH = 98


def project_params(choices: Iterable[Choice]) -> str:
    """Text of ``params.yaml``."""
    _, text = read_original("params.yaml").split("\n\n", 1)
    text = text.replace("`make repro`", "`snojoe repro`")
    for name, value, reason in choices:
        text = put(text, name, value, reason)
    return f"{_HEAD}\n{text}"


def put(text: str, name: str, value: object, reason: str = "") -> str:
    """Text with another value for a parameter, and the reason in a comment above it.

    The text is as DVC writes it: blocks, and lists that are not indented.
    """
    lines = text.splitlines()
    start, indent = -1, ""
    *sections, last = name.split(".")
    for each in sections:
        start = _find(lines, start + 1, indent, each)
        indent += "  "
    section, start = start, _find(lines, start + 1, indent, last)
    end = start + 1
    if start < 0:  # one that has a default and is not in the file
        start = end = section + 1
    while start < end < len(lines) and re.match(rf"{indent}(  |- )", lines[end]):
        end += 1
    dumped = yaml.safe_dump(
        {last: value}, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=False
    )
    new = [indent + line for line in dumped.replace(": null\n", ":\n").splitlines()]
    why = textwrap.wrap(reason, _WIDTH - len(indent), break_on_hyphens=False)
    lines[start:end] = [*(f"{indent}# {line}" for line in why), *new]
    return "\n".join(lines) + "\n"


def _find(lines: list[str], start: int, indent: str, key: str) -> int:
    """Line of a key in the section whose lines begin at `start`; -1 where it has none."""
    for i in range(start, len(lines)):
        if lines[i].startswith(f"{indent}{key}:"):
            return i
        if lines[i].strip() and not lines[i].startswith(indent):
            break
    return -1
