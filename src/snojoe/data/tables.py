"""Tables that a user brings: CSV with named columns, as people and programs write it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from snojoe.data.archives import Archive
from snojoe.support.errors import SnojoeError

_SHOWN_PROBLEMS = 5
_SEPARATORS = ",;\t"

WRONG_FIELDS = "expected as many fields as in the first line (a comma in a field needs quotes)"


class Table(NamedTuple):
    """The cells of a table, stripped, and where they stand.

    ``columns`` are as written. ``rows`` hold a line's number and its cells, None for a row with too
    few or too many; rows without a single cell are left out, as spreadsheets write some.
    """

    where: str
    columns: list[str]
    rows: list[tuple[int, list[str] | None]]

    def column(self, *names: str) -> int | None:
        """Index of the column of one of these names, in any capitals; the first name wins.

        Raises
        ------
        SnojoeError
            If it is there twice.
        """
        written = [column.casefold() for column in self.columns]
        for name in names:
            if written.count(name) > 1:
                raise SnojoeError(
                    f"{self.where}: expected one column {name}; got {','.join(self.columns)!r}"
                )
            if name in written:
                return written.index(name)
        return None


def read_table(archive: Archive, name: str) -> Table:
    """A table of an archive, separated by commas, semicolons or tabs: what its first line has most.

    Raises
    ------
    SnojoeError
        If the file is no CSV.
    """
    where = f"{archive.path}: {name}"
    text = archive.text(name)
    first = text.split("\n", 1)[0]
    skipped = 0
    if hint := re.fullmatch(r'"?sep=(.)"?\s*', first):  # for Excel
        text, skipped = text.partition("\n")[2], 1
        first = text.split("\n", 1)[0]
    separator = hint[1] if hint else max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = [column.strip() for column in next(reader, [])]
        rows = [
            (reader.line_num + skipped, [cell.strip() for cell in cells])
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise SnojoeError(f"{where}: not readable as CSV: {error}") from None
    return Table(
        where,
        columns,
        [(line, cells if len(cells) == len(columns) else None) for line, cells in rows],
    )


def rows(
    archive: Archive, name: str, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Line and cells of the given columns for each row; None for one with too few or too many.

    Raises
    ------
    SnojoeError
        If the file is no CSV, or a column is missing or there twice.
    """
    table = read_table(archive, name)
    at = {column: table.column(column) for column in columns}
    if None in at.values():
        raise SnojoeError(
            f"{table.where}: expected a first line with {', '.join(columns)}; "
            f"got {','.join(table.columns)!r}"
        )
    for line, cells in table.rows:
        row = {name: cells[i] for name, i in at.items() if i is not None} if cells else None
        yield line, row


def joined(cell: str) -> list[str]:
    """The names in a cell, joined by ``;`` or ``|``."""
    return [name.strip() for name in re.split("[;|]", cell)] if cell else []


def check(archive: Archive, name: str, problems: Sequence[str]) -> None:
    """Raise a SnojoeError that shows the first problems, if there is any."""
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = [f"{archive.path}: {name}: {each}" for each in problems[:_SHOWN_PROBLEMS]]
        raise SnojoeError("\n".join([*shown, *([f"and {more} more"] if more > 0 else [])]))
