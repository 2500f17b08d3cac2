"""Tables that a user brings: CSV in UTF-8, fields separated by commas, with named columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from snojoe.data.archives import Archive
from snojoe.support.errors import SnojoeError
from snojoe.support.limits import MOST_GROUPS

_SHOWN_PROBLEMS = 5


def rows(
    archive: Archive, name: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Line and stripped cells of each row; None for a row with too few or too many fields.

    Other columns are left out; a cell of an optional one that is not there is empty.

    Raises
    ------
    SnojoeError
        If the file is no CSV, or a column is missing or there twice.
    """
    where = f"{archive.path}: {name}"
    reader = csv.DictReader(io.StringIO(archive.text(name), newline=""), strict=True)
    try:
        header = [column.strip() for column in reader.fieldnames or []]
        if any(header.count(column) != 1 for column in columns) or any(
            header.count(column) > 1 for column in optional
        ):
            raise SnojoeError(
                f"{where}: expected a first line with {', '.join(columns)}, separated by "
                f"commas; got {','.join(header)!r}"
            )
        reader.fieldnames = header
        for row in reader:
            fields: dict[Any, Any] = row
            whole = None not in fields and None not in fields.values()
            wanted = (*columns, *optional)
            cells = {column: (fields.get(column) or "").strip() for column in wanted}
            yield reader.line_num, cells if whole else None
    except csv.Error as error:
        raise SnojoeError(f"{where}: not readable as CSV: {error}") from None


WRONG_FIELDS = "expected as many fields as in the first line (a comma in a field needs quotes)"


def joined(cell: str) -> list[str]:
    """The names in a cell, joined by ``;`` or ``|``."""
    return [name.strip() for name in re.split("[;|]", cell)] if cell else []


def wrong_groups(cell: str) -> str:
    """What is wrong with a cell of groups; nothing is empty."""
    groups = joined(cell)
    if "" in groups:
        return f"expected groups joined by ; or |; got {cell!r}"
    if len(set(groups)) > MOST_GROUPS:
        return f"expected at most {MOST_GROUPS} groups of one image; got {len(set(groups))}"
    return ""


def check(archive: Archive, name: str, problems: Sequence[str]) -> None:
    """Raise a SnojoeError that shows the first problems, if there is any."""
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = [f"{archive.path}: {name}: {each}" for each in problems[:_SHOWN_PROBLEMS]]
        raise SnojoeError("\n".join([*shown, *([f"and {more} more"] if more > 0 else [])]))
