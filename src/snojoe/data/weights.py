"""The initial weights of a trunk: copied or downloaded, and seen to fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from snojoe.data.fetch import CHECKSUMS, edited_files, files_in, read_checksums
from snojoe.data.preprocessing import preprocessing_of
from snojoe.model.architectures import is_timm
from snojoe.model.described import described_preprocessing
from snojoe.model.weights import NETWORK, WEIGHTS_SUFFIXES, weights_suffix
from snojoe.params import Params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_folder, sha256, write_json


def fetch_weights(
    arch: str, weights: str | None, folder: Path, target: Path, code: str | None = None
) -> str:
    """Put the initial weights of the trunk into ``target``, or nothing where there are none.

    Parameters
    ----------
    arch : str
        Name of the trunk.
    weights : str or None
        A file in ``folder`` (`snojoe.model.weights.WEIGHTS_SUFFIXES`), or a name of torchvision's
        or, for a network of timm's, a tag such as ``in1k``.
    folder : Path
        The user's archives.
    code : str, optional
        File of code in ``folder``, of a network of one's own.
    target : Path
        Folder to create or replace; always holds ``source.json``, which says what was asked for.
        A file that was downloaded is kept.

    Returns
    -------
    str
        A line for the user.

    Raises
    ------
    SnojoeError
        If there is no such file or name, its checksum is wrong, or ``target`` was edited.
    """
    asked = {"arch": arch, "weights": weights} | ({"code": code} if code else {})
    there = {path: sha256(path) for path in files_in(target) if path.name != "source.json"}
    if edited := edited_files(there, read_checksums(target)):
        raise SnojoeError("\n".join(edited))
    suffix = weights_suffix(weights)
    kept = target / "source.json"
    named = there and suffix is None
    if named and json.loads(kept.read_text(encoding="utf-8")) == asked:
        return f"{target}: {weights}"

    with atomic_folder(target) as temporary:
        write_json(temporary / "source.json", asked)
        if code:
            source = folder / code
            if not source.is_file():
                raise SnojoeError(f"{source}: no such file of code (model.own.network)")
            shutil.copyfile(source, temporary / NETWORK)
        if weights is None:
            if not code:
                return f"{target}: none, the trunk starts from random weights"
        elif suffix is not None:
            source = folder / weights
            if not source.is_file():
                raise SnojoeError(f"{source}: no such weights file (model.weights)")
            shutil.copyfile(source, temporary / f"weights{suffix}")
        elif is_timm(arch):
            from snojoe.model.timm_networks import download_pretrained

            download_pretrained(arch, weights, temporary / "weights.safetensors")
        else:
            _download_torchvision_weights(arch, weights, temporary / "weights.pth")
        copied = (path for path in temporary.iterdir() if path.name != "source.json")
        write_json(temporary / CHECKSUMS, {sha256(path): path.name for path in copied})
    return f"{target}: {code or weights}"


def check_network(params: Params, weights: Path | None, code: Path | None = None) -> None:
    """See that the network takes the weights, the depths and the size of the images.

    Parameters
    ----------
    params : Params
    weights : Path or None
        Its initial weights.
    code : Path, optional
        The code of a network of one's own, which is run.

    Raises
    ------
    SnojoeError
        Naming the file or parameter, with the first differences.
    """
    arch, size = params.model.arch, params.data.image_size
    if params.model.own and code:
        from snojoe.model.own_network import build_own, check_own

        own = params.model.own.model_dump()
        if own["classes"]:  # or they are the data's, which is not read yet
            check_own(build_own(code, own, own["classes"], weights), own, size)
        return
    if weights is None and not is_timm(arch):
        return  # the parameters are checked already
    from snojoe.model.classifier import build_classifier, check_classifier

    check_classifier(build_classifier(arch, 1, weights, size), arch, params.depths, size)


def preprocessing_hint(params: Params) -> str | None:
    """What to say where a network of timm's, with its weights, was trained for other statistics."""
    model, asked = params.model, preprocessing_of(params.data)
    if not is_timm(model.arch) or model.weights is None:
        return None
    name = model.arch if weights_suffix(model.weights) else f"{model.arch}.{model.weights}"
    its = described_preprocessing(name, asked.image_size)
    if (its.mean, its.std) == (asked.mean, asked.std):
        return None
    return (
        f"data.preprocessing: mean {asked.mean} and std {asked.std}, but timm describes {name} "
        f"with {its.mean} and {its.std}; `preprocessing: {name}` takes those"
    )


def _download_torchvision_weights(arch: str, name: str, path: Path) -> None:
    import torch
    from torchvision.models import get_model_weights

    try:
        url = get_model_weights(arch)[name].url
    except (KeyError, ValueError):
        raise SnojoeError(
            f"model.weights: expected null, a file ({', '.join(WEIGHTS_SUFFIXES)}), or a "
            f"torchvision name for {arch}; got {name!r}"
        ) from None
    prefix = Path(url).stem.rpartition("-")[2]  # torchvision names files by their checksum
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
    except (OSError, RuntimeError) as error:
        raise SnojoeError(f"model.weights: {url}: {error}") from None
