"""Images that belong together: of one photograph, video or patient, or with an object in common.

They are no independent evidence, and the statistics keep them together. A user names them in the
column ``group`` of a ``labels.csv``, or, in any folder of an archive and for any format, in a
``groups.csv``:

=====  ===========================================================================================
file   path from the folder of ``groups.csv``, with ``/``
group  one or several, joined by ``;`` or ``|``; empty for an image on its own
=====  ===========================================================================================

Two images belong together where they have a group in common; a name means the same group in all
archives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from snojoe.data.archives import Archive, NameFinder
from snojoe.data.tables import WRONG_FIELDS, check, joined, rows

NAME = "groups.csv"
COLUMN = "group"


class Groups:
    """What the ``groups.csv`` of some archives say.

    Raises
    ------
    SnojoeError
        Naming the lines that are wrong, and what was expected.
    """

    def __init__(self, archives: Sequence[Archive]) -> None:
        self._of: dict[tuple[int, str], tuple[str, ...]] = {}
        for archive in archives:
            for name in archive:
                if PurePosixPath(name).name == NAME:
                    find = NameFinder(archive)
                    check(archive, name, list(self._read(archive, name, find)))

    def of(self, archive: Archive, image_name: str) -> tuple[str, ...]:
        """Groups of an image, by its name in its archive; empty where none is named."""
        return self._of.get((id(archive), image_name), ())

    def _read(self, archive: Archive, name: str, find: NameFinder) -> Iterator[str]:
        """Take every row, or say what is wrong with it."""
        lines: dict[str, int] = {}
        for line, row in rows(archive, name, ("file", COLUMN)):
            if row is None:
                yield f"line {line}: {WRONG_FIELDS}"
                continue
            path = find(PurePosixPath(name).parent.as_posix(), row["file"])
            groups = joined(row[COLUMN])
            if path is None:
                yield f"line {line}: no such file {row['file']!r}"
            elif path in lines:
                yield f"line {line}: {row['file']!r} is in line {lines[path]} already"
            elif "" in groups:
                yield f"line {line}: expected groups joined by ; or |; got {row[COLUMN]!r}"
            else:
                self._of[id(archive), path] = tuple(groups)
            if path is not None:
                lines.setdefault(path, line)
