"""Bring every source to where ``locate`` finds it: make it, check it, or download it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snojoe.params import ArchiveSource, Data
from snojoe.support.errors import SnojoeError
from snojoe.support.files import scratch_folder, sha256, write_json
from snojoe.support.progress import progress
from snojoe.support.text import human_size

CHECKSUMS = "checksums.json"

_EMBEDDED = {"digits.tar", "novel_digits.tar", "textures.tar"}
_CHUNK = 2**20


def locate(source: ArchiveSource, folder: Path, raw: Path) -> Path:
    """Archive or folder of a source: the user's own stay where they are, others are in ``raw``."""
    return folder / source.path if source.path else raw / source.filename


def fetch(data: Data, raw: Path, downloads: Path) -> list[str]:
    """Make the embedded sets, check the user's archives, download the rest.

    A file in ``raw`` that this program did not write, or that was edited since, stops everything:
    it is the user's. ``raw/checksums.json`` tells the two apart.

    Parameters
    ----------
    data : Data
        The ``data`` section of the parameters.
    raw : Path
        Folder for what is made or downloaded; what is already there and right is kept.
    downloads : Path
        Folder where finished downloads wait until all are there, so that a failure of one does
        not cost the others, and where those go that no source names any more. Files are named by
        their checksum.

    Returns
    -------
    list of str
        One line on each source.

    Raises
    ------
    SnojoeError
        Listing every archive that is missing, edited, or has another checksum, before any
        download.
    """
    folder = Path(data.folder)
    sources = data.sources
    made = read_checksums(raw)
    wanted = {source.sha256: source.filename for source in sources if source.url and source.sha256}
    there = check_archives(data, raw)

    with scratch_folder(raw) as scratch:
        new = {}
        if any(source.embedded for source in sources):
            new = _make_embedded(data, scratch)
            wanted |= {sha256(path): name for name, path in new.items()}
        for source in sources:
            if source.url and source.sha256 and there.get(raw / source.filename) != source.sha256:
                new[source.filename] = download(source.url, source.sha256, downloads)

        # Both old and new until all is in place: killed before, neither looks like a user's edit.
        write_json(raw / CHECKSUMS, made | wanted)
        for path, checksum in there.items():
            if checksum not in wanted:
                _retire(path, downloads / checksum)
        for name, path in new.items():
            shutil.move(path, raw / name)
        write_json(raw / CHECKSUMS, dict(sorted(wanted.items())))

    lines = []
    for source in sources:
        path = locate(source, folder, raw)
        lines.append(f"{path}: {human_size(path.stat().st_size) if path.is_file() else 'folder'}")
    return lines


def check_archives(data: Data, raw: Path) -> dict[Path, str]:
    """Checksums of the files in ``raw``.

    Raises
    ------
    SnojoeError
        Listing every archive of the user's that is missing or has another checksum than it should,
        and every file in ``raw`` that this program did not write as it is.
    """
    sources = data.sources
    there = {path: sha256(path) for path in files_in(raw)}
    known = {*read_checksums(raw), *(s.sha256 for s in sources if s.url and s.sha256)}
    if wrong := [*_wrong_archives(sources, Path(data.folder)), *edited_files(there, known)]:
        raise SnojoeError("\n".join(wrong))
    return there


def read_checksums(folder: Path) -> dict[str, str]:
    """What this program put into a folder: names by checksum."""
    path = folder / CHECKSUMS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SnojoeError(f"{path}: not readable ({error}); delete {folder}") from None
    if not isinstance(found, dict):
        raise SnojoeError(f"{path}: expected names by checksum; delete {folder}")
    return found


def files_in(folder: Path) -> list[Path]:
    """Every file that is not hidden, the list of checksums left out."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if path.name != CHECKSUMS and not path.name.startswith(".")]


def _wrong_archives(sources: Sequence[ArchiveSource], folder: Path) -> Iterator[str]:
    for source in sources:
        if not source.path:
            continue
        path = folder / source.path
        if not path.exists():
            where = f"\n  {source.obtain}" if source.obtain else ""
            if ".dvc" in Path.cwd().parts:
                where += (
                    "\n  this is a copy for an experiment of the queue, which has only what git or "
                    f"DVC tracks: dvc add {path}, and git add what it writes (docs/own-data.md)"
                )
            yield f"{path}: no such archive or folder (data.folder is {folder}){where}"
        elif source.sha256 and path.is_dir():
            yield f"{path}: a folder has no sha256; give the tar, or leave the sha256 out"
        elif source.sha256 and (found := sha256(path)) != source.sha256:
            yield f"{path}: expected sha256 {source.sha256}; got {found}"


def edited_files(there: Mapping[Path, str], known: Container[str]) -> list[str]:
    return [
        f"{path}: not as this program wrote it. To use it, move it to data.folder and name it by "
        f"path; to drop it, delete it"
        for path, checksum in there.items()
        if checksum not in known
    ]


def _retire(path: Path, download: Path) -> None:
    """Remove what can be made again, keep what was downloaded."""
    if path.name in _EMBEDDED:
        path.unlink()
    else:
        download.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, download)


def _make_embedded(data: Data, scratch: Path) -> dict[str, Path]:
    from snojoe.data.digits import write_digits

    d = data.digits
    write_digits(
        scratch, train=d.train, val=d.val, test=d.test, ood=d.ood, size=d.size, seed=d.seed
    )
    names = {source.filename for source in data.sources if source.embedded}
    return {name: scratch / name for name in sorted(names)}


def download(addresses: list[str], checksum: str, folder: Path) -> Path:
    """Fetch a file from the first address that serves it with the right checksum.

    What a broken connection leaves is continued, by the next address or the next run.

    Returns
    -------
    Path
        ``folder/<checksum>``.

    Raises
    ------
    SnojoeError
        If no address serves it; the message says why for each.
    """
    import pooch
    import requests

    partial = partial_download(folder, checksum)

    def retrieve(address: str) -> Path:
        continued = partial.exists()
        try:
            return Path(
                pooch.retrieve(
                    address,
                    known_hash=f"sha256:{checksum}",
                    path=folder,
                    fname=checksum,
                    downloader=partial_downloader(partial),
                )
            )
        except ValueError:  # another checksum
            if continued:
                return retrieve(address)
            raise

    failures = []
    for address in addresses:
        try:
            return retrieve(address)
        except (requests.RequestException, OSError, ValueError) as error:
            failures.append(f"{address}: {error}")
    raise SnojoeError("no source could be downloaded\n  " + "\n  ".join(failures))


def partial_download(folder: Path, checksum: str) -> Path:
    """Where the part of a download is that has arrived."""
    return folder / f"{checksum}.part"


def partial_downloader(partial: Path) -> Callable[[str, str, Any], None]:
    """A downloader for pooch, which cannot resume: it collects the file in ``partial``.

    A connection that breaks is opened again for as long as each one brings something.
    """
    import requests

    def fetch_rest(address: str) -> None:
        start = partial.stat().st_size if partial.exists() else 0
        headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
        with requests.get(address, headers=headers, stream=True, timeout=(15, 60)) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is left to fetch
            response.raise_for_status()
            continued = response.status_code == requests.codes.partial_content
            chunks = -(-int(response.headers.get("Content-Length", 0)) // _CHUNK) or None
            with partial.open("ab" if continued else "wb") as file:
                for chunk in progress(
                    response.iter_content(_CHUNK), chunks, Path(address).name, "MiB"
                ):
                    file.write(chunk)

    def downloader(address: str, target: str, _: Any) -> None:
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            try:
                fetch_rest(address)
            except requests.RequestException:
                if not partial.exists() or partial.stat().st_size <= before:
                    raise
            else:
                partial.replace(target)
                return

    return downloader
