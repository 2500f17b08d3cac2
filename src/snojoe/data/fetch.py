"""Bring every source to where ``locate`` finds it: make it, check it, or download it."""

from __future__ import annotations

import shutil
from pathlib import Path

from snojoe.errors import SnojoeError
from snojoe.files import atomic_folder, sha256, write_json
from snojoe.params import Data, Source

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")


def locate(source: Source, folder: Path, raw: Path) -> Path:
    """Archive or folder of a source: the user's own stay where they are, others are in ``raw``."""
    return folder / source.path if source.path else raw / source.filename


def fetch(data: Data, raw: Path, downloads: Path) -> list[str]:
    """Make the embedded sets, check the user's archives, download the rest.

    Parameters
    ----------
    data : Data
        The ``data`` section of the parameters.
    raw : Path
        Folder for what is made or downloaded.
    downloads : Path
        Folder where finished downloads wait until all are there, so that a failure of one does
        not cost the others.

    Returns
    -------
    list of str
        One line on each source.

    Raises
    ------
    SnojoeError
        Listing every archive that is missing or has another checksum, before any download.
    """
    folder = Path(data.folder)
    sources = [*data.id, *data.ood.values()]
    wrong = []
    for source in sources:
        if source.path:
            path = folder / source.path
            if not path.exists():
                wrong.append(f"{path}: no such archive or folder (data.folder is {folder})")
            elif source.sha256 and path.is_file() and (found := sha256(path)) != source.sha256:
                wrong.append(f"{path}: expected sha256 {source.sha256}; got {found}")
    if wrong:
        raise SnojoeError("\n".join(wrong))

    raw.mkdir(parents=True, exist_ok=True)
    lines = []
    if any(source.embedded for source in sources):
        from snojoe.data.digits import write_digits

        d = data.digits
        write_digits(
            raw,
            train=d.train,
            val=d.val,
            test=d.test,
            ood=d.ood,
            size=d.size,
            seed=d.seed,
        )
    for source in sources:
        if source.url:
            finished = download(source.url, source.sha256 or "", downloads)
            finished.replace(raw / source.filename)
        path = locate(source, folder, raw)
        size = f"{path.stat().st_size / 1e6:,.1f} MB" if path.is_file() else "folder"
        lines.append(f"{path}: {size}")
    return lines


def download(addresses: list[str], checksum: str, folder: Path) -> Path:
    """Fetch a file from the first address that serves it with the right checksum.

    Raises
    ------
    SnojoeError
        If none does; the message says why for each.
    """
    import pooch
    import requests

    failures = []
    for address in addresses:
        try:
            done = pooch.retrieve(
                address,
                known_hash=f"sha256:{checksum}",
                path=folder,
                fname=Path(address).name,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=60),
            )
        except (requests.RequestException, OSError, ValueError) as error:
            failures.append(f"{address}: {error}")
        else:
            return Path(done)
    raise SnojoeError("no source could be downloaded\n  " + "\n  ".join(failures))


def fetch_weights(arch: str, weights: str | None, folder: Path, target: Path) -> str:
    """Put the initial weights of the trunk into ``target``, or nothing where there are none.

    Parameters
    ----------
    arch : str
        Name of the trunk.
    weights : str or None
        A file in ``folder`` (``.pth``, ``.pt``, ``.safetensors``) or a torchvision name.
    folder : Path
        The user's archives.
    target : Path
        Folder to create or replace; always holds ``source.json``, which says what was asked for.

    Returns
    -------
    str
        A line for the user.

    Raises
    ------
    SnojoeError
        If there is no such file or name, or its checksum is wrong.
    """
    with atomic_folder(target) as temporary:
        write_json(temporary / "source.json", {"arch": arch, "weights": weights})
        if weights is None:
            return f"{target}: none, the trunk starts from random weights"
        suffix = Path(weights).suffix
        if suffix in WEIGHTS_SUFFIXES:
            source = folder / weights
            if not source.is_file():
                raise SnojoeError(f"{source}: no such weights file (model.weights)")
            shutil.copyfile(source, temporary / f"weights{suffix}")
        else:
            _download_torchvision_weights(arch, weights, temporary / "weights.pth")
    return f"{target}: {weights}"


def weights_file(target: Path) -> Path | None:
    """The file that ``fetch_weights`` left in ``target``, if any."""
    return next((path for path in target.iterdir() if path.suffix in WEIGHTS_SUFFIXES), None)


def _download_torchvision_weights(arch: str, name: str, path: Path) -> None:
    import torch
    from torchvision.models import get_model_weights

    try:
        url = get_model_weights(arch)[name].url
    except (KeyError, ValueError):
        raise SnojoeError(
            f"model.weights: expected null, a .pth or .safetensors file, or a torchvision name "
            f"for {arch}; got {name!r}"
        ) from None
    prefix = Path(url).stem.rpartition("-")[2]  # torchvision names files by their checksum
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
    except (OSError, RuntimeError) as error:
        raise SnojoeError(f"model.weights: {url}: {error}") from None
