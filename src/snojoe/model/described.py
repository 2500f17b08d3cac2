"""The preprocessing that a published network was trained for, as timm or torchvision has it."""

from __future__ import annotations

from typing import Any

from snojoe.model.preprocessing import Preprocessing, Resize, Statistics, preprocessing
from snojoe.support.errors import SnojoeError

_INTERPOLATIONS = ("bilinear", "bicubic")


def described_preprocessing(name: str, image_size: int) -> Preprocessing:
    """The preprocessing of ``timm/<name>[.<tag>]`` or ``torchvision/<name>.<weights>``.

    The resized image is to the network's as in the description; the size itself is ours.

    Raises
    ------
    SnojoeError
        If the library is not installed, knows no such network, or the description has something
        that this program does not do.
    """
    library, _, network = name.partition("/")
    found = _of_timm(network) if library == "timm" else _of_torchvision(network)
    if found is None:
        raise SnojoeError(f"data.preprocessing: {library} describes no {network!r}")
    interpolation, crop_mode, crop, mean, std = found
    if interpolation not in _INTERPOLATIONS or crop_mode not in ("center", "squash"):
        raise SnojoeError(
            f"data.preprocessing: {name} has {interpolation} and {crop_mode}; expected "
            f"{' or '.join(_INTERPOLATIONS)}, and center or squash"
        )
    resize = Resize(interpolation, crop_mode == "center", crop)
    return preprocessing(image_size, resize, mean, std)


Described = tuple[Any, str, float, Statistics, Statistics]


def import_timm() -> Any:
    """timm, which is optional.

    Raises
    ------
    SnojoeError
        If it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise SnojoeError(
            f"{error}: timm/<name> takes the extra: pip install 'snojoe[timm]'"
        ) from None
    return timm


def _of_timm(name: str) -> Described | None:
    timm = import_timm()
    model = name.partition(".")[0]
    if not timm.is_model(model) or ("." in name and name not in timm.list_pretrained(f"{model}.*")):
        return None
    found = timm.get_pretrained_cfg(name, allow_unregistered=True)
    mean, std = ((float(a), float(b), float(c)) for a, b, c in (found.mean, found.std))
    return found.interpolation, found.crop_mode, float(found.crop_pct), mean, std


def _of_torchvision(name: str) -> Described | None:
    from torchvision import models

    network, _, weights = name.partition(".")
    try:
        made = models.get_model_weights(network)[weights].transforms()
    except (KeyError, ValueError):
        return None
    mean, std = ((float(a), float(b), float(c)) for a, b, c in (made.mean, made.std))
    crop = made.crop_size[0] / made.resize_size[0]
    return made.interpolation.value, "center", crop, mean, std
