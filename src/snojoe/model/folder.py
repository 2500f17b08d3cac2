"""The folder of a trained model: what lies in it, and all that writes and reads it.

===========================  ===============================================================
The first two are enough to detect with. Only `load_model` and `save_model` import torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from snojoe.measures.metrics import FloatArray
from snojoe.model.preprocessing import Preprocessing
from snojoe.model.weights import NETWORK
from snojoe.support.errors import SnojoeError
from snojoe.support.files import (
    SUMS,
    atomic_file,
    check_sums,
    sha256,
    write_csv,
    write_json,
    write_sums,
)
from snojoe.support.text import first_line

if TYPE_CHECKING:
    import pandas as pd

    from snojoe.model.classifier import Classifier

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_CALIBRATION = "calibration.safetensors"
_VAL_ENERGIES = "val_energies"
_CALIBRATED = {"joint_energy": _VAL_ENERGIES}  # other scores have their own names
_HEAD = ("head.classifier.weight", "head.classifier.bias")
_HISTORY = "history.csv"
_SIGMAS = "sigma.csv"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Threshold(_Part):
    """The energy ``tau`` that a share ``accept`` of the val images reaches."""

    accept: float
    tau: float


class ValImages(_Part):
    """Which val images tau was fitted on: their number, and a checksum of their names.

    Others that could have been are ``negatives``: they show none of the classes, and what tau
    promises does not hold for such. ``choosing`` is the number of those on which something else was
    chosen: 0 in folders of 0.1.0, which fitted all on all. ``source`` is what they were: the val
    split, or what somebody named.
    """

    images: int
    sha256: str
    negatives: int = 0
    choosing: int = 0
    source: str = "val"


class ModelConfig(_Part):
    """``config.json``: what is known of a model besides its weights.

    Attributes
    ----------
    format : 1
        Of the whole folder. Version 0.1.0 wrote none; its folders are otherwise the same.
    arch : str
    classes : list of str
        Names of the K labels, in the order of the logits.
    preprocessing : Preprocessing
    sn_layers, normalized_weights, seed : int
        Depth of SN, the number of weights that lie in it, and what the training was seeded with.
    model, spectral_norm, train : dict
        The sections of the parameters, as a record: they stay readable where parameters change.
    threshold : Threshold
        As fitted on val; for people and other programs, since the energies of val give any other.
    label_thresholds : dict of str to float or None
        Probability from which on an image has a label; None where val has no positive.
    val : ValImages
    """

    format: Literal[1] = 1
    arch: str
    classes: Annotated[list[str], Field(min_length=1)]
    preprocessing: Preprocessing
    sn_layers: int
    normalized_weights: int
    seed: int
    model: dict[str, Any]
    spectral_norm: dict[str, Any]
    train: dict[str, Any]
    threshold: Threshold
    label_thresholds: dict[str, float | None]
    val: ValImages

    @property
    def saw_pseudo_ood(self) -> bool:
        """Whether it was trained with pseudo-OOD images, so that these are no test of it."""
        return self.train.get("outliers") == "pseudo_ood"

    @model_validator(mode="after")
    def _each_label_has_a_threshold(self) -> Self:
        if set(self.label_thresholds) != set(self.classes):
            raise ValueError("label_thresholds: expected one for each class")
        return self


def save_model(
    model: Classifier,
    folder: Path,
    config: ModelConfig,
    val_energies: FloatArray,
    *,
    history: Sequence[Mapping[str, Any]] = (),
    sigmas: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write everything into a folder that exists; files of an earlier model are replaced.

    Parameters
    ----------
    model : Classifier
        One that is not normalised (see ``snojoe.spectral_norm.fold_spectral_norm``).
    folder : Path
    config : ModelConfig
    val_energies : (n,) float64
        The joint energies that tau is fitted on: `snojoe.model.decision.fit_decision`.
    history, sigmas : sequence of dict
        The rows of ``history.csv`` and ``sigma.csv``; without any there is no such file.
    """
    import torch
    from safetensors.torch import save

    from snojoe.model.own_network import OwnClassifier

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if isinstance(model, OwnClassifier):
        weight, bias = model.linear_head()
        state |= {_HEAD[0]: weight.cpu().contiguous(), _HEAD[1]: bias.cpu().contiguous()}
    state[_VAL_ENERGIES] = torch.from_numpy(val_energies)
    # Not save_file: nobody but its owner may read what it makes, and its error about a full disk
    # is no OSError.
    (folder / _WEIGHTS).write_bytes(save(state))
    write_json(folder / CONFIG, config.model_dump(mode="json"))
    for name, rows in ((_HISTORY, history), (_SIGMAS, sigmas)):
        if rows:
            write_csv(folder / name, rows)
    write_sums(folder)


def change_depth(folder: Path, sn_layers: int) -> None:
    """Say of a model that it is of another depth, which normalises the same weights."""
    config = read_config(folder).model_copy(update={"sn_layers": sn_layers})
    write_json(folder / CONFIG, config.model_dump(mode="json"))
    write_sums(folder)


def write_calibration(
    folder: Path, threshold: Threshold, val: ValImages, scores: Mapping[str, FloatArray]
) -> None:
    """Put other images, and what follows from them, in the place of those of a model's val split.

    The weights stay as they are, to the byte. While the files change the folder has no
    ``SHA256SUMS``: killed in between it still detects, by the new energies.

    Parameters
    ----------
    folder : Path
    threshold, val : Threshold, ValImages
    scores : mapping of str to (n,) float64 array
        What "joint_energy" and other scores say of the images, in one order.

    Raises
    ------
    SnojoeError
        If the folder is no model directory.
    """
    from safetensors.numpy import save

    config = read_config(folder).model_copy(update={"threshold": threshold, "val": val})
    arrays = {_CALIBRATED.get(name, name): values for name, values in scores.items()}
    (folder / SUMS).unlink(missing_ok=True)
    with atomic_file(folder / _CALIBRATION) as temporary:
        temporary.write_bytes(save(arrays))
    write_json(folder / CONFIG, config.model_dump(mode="json"))
    write_sums(folder)


def load_model(folder: Path, *, run_code: bool = False) -> tuple[Classifier, ModelConfig]:
    """Read a model and its config; the model is on the CPU and in eval mode.

    Where ``SHA256SUMS`` lies beside the files, they are checked against it.

    Parameters
    ----------
    folder : Path
    run_code : bool
        Whether the code of a network of one's own may be run, which lies in its folder.

    Raises
    ------
    SnojoeError
        If the folder is not a model directory, its parts do not fit together, or it holds code
        that may not be run.
    """
    from safetensors.torch import load_file

    from snojoe.model.classifier import Unfilled, build_classifier
    from snojoe.model.own_network import build_own

    config = read_config(folder)
    own = config.model.get("own")
    if own and not run_code:
        raise SnojoeError(
            f"{folder}: a network of one's own, whose code lies in {folder / NETWORK}; it is run "
            "only where you allow it: run_code=True, or --run-code"
        )
    if (folder / SUMS).exists():
        others = [_CALIBRATION] if (folder / _CALIBRATION).exists() else []
        check_sums(folder, only=[CONFIG, _WEIGHTS, *others, *([NETWORK] if own else [])])
    try:
        state = load_file(folder / _WEIGHTS)
        state.pop(_VAL_ENERGIES, None)
        size = config.preprocessing.image_size
        model: Classifier
        if own:
            model = build_own(folder / NETWORK, own, config.classes)
            state = {name: tensor for name, tensor in state.items() if name not in _HEAD}
        else:
            with Unfilled():
                model = build_classifier(config.arch, len(config.classes), image_size=size)
        model.load_state_dict(state)
        model.mean, model.std = config.preprocessing.mean, config.preprocessing.std
    except FileNotFoundError:
        raise _missing(folder, _WEIGHTS) from None
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise SnojoeError(f"{folder}: damaged model directory ({first_line(error)})") from None
    return model.eval(), config


def read_config(folder: Path) -> ModelConfig:
    """Read ``config.json`` alone; of a folder that version 0.1.0 wrote, too.

    Raises
    ------
    SnojoeError
        If the file is missing or damaged, or another version's.
    """
    path = folder / CONFIG
    try:
        return ModelConfig.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise _missing(folder, CONFIG) from None
    except ValidationError as error:
        problems = {".".join(map(str, each["loc"])): each for each in error.errors()}
        if "format" in problems:
            found = problems["format"]["input"]
            raise SnojoeError(f"{folder}: this version has no model format {found!r}") from None
        lacking = [name for name, each in problems.items() if each["type"] == "missing"]
        if lacking:
            raise SnojoeError(
                f"{folder}: not a model to detect with ({CONFIG} lacks {', '.join(lacking)})"
            ) from None
        where, first = next(iter(problems.items()))
        raise SnojoeError(f"{path}: not readable ({where}: {first['msg']})") from None
    except OSError as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None


def read_val_energies(folder: Path) -> FloatArray:
    """The joint energies that tau is fitted on, (n,) float64, in their order; without torch.

    Raises
    ------
    SnojoeError
        If the folder holds no such energies.
    """
    try:
        own = (folder / _CALIBRATION).exists()
        (energies,) = _read_tensors(folder, _VAL_ENERGIES, file=_CALIBRATION if own else _WEIGHTS)
        if energies.ndim != 1:
            raise ValueError(f"{_VAL_ENERGIES}: expected (n,); got {energies.shape}")
    except (OSError, SafetensorError, ValueError) as error:
        raise SnojoeError(f"{folder}: not a model to detect with ({error})") from None
    return energies


def read_calibration(folder: Path, score: str) -> FloatArray | None:
    """What another score says of the images given to `write_calibration`; None without any.

    Raises
    ------
    SnojoeError
        If the file is damaged.
    """
    path = folder / _CALIBRATION
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as tensors:
            there = score in tensors.keys()  # noqa: SIM118
            return tensors.get_tensor(score) if there else None
    except (OSError, SafetensorError) as error:
        raise SnojoeError(f"{path}: not readable ({first_line(error)})") from None


def read_head(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight (K, 1000) and bias (K,) of the last linear layer, float32; without torch.

    Of a network of one's own (K, D), with D = 0 where its head is not one linear layer.

    Raises
    ------
    SnojoeError
        If the folder holds no readable model.
    """
    try:
        weight, bias = _read_tensors(folder, *_HEAD)
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(f"a head of shapes {weight.shape} and {bias.shape}")
    except (OSError, SafetensorError, ValueError) as error:
        raise SnojoeError(f"{folder / _WEIGHTS}: not a readable model ({error})") from None
    return weight, bias


def weights_digest(folder: Path) -> str:
    """Checksum of the file with the weights, by which others know that they belong to it.

    Raises
    ------
    SnojoeError
        If there is no such file.
    """
    try:
        return sha256(folder / _WEIGHTS)
    except FileNotFoundError:
        raise _missing(folder, _WEIGHTS) from None


def names_digest(names: Iterable[str]) -> str:
    """Checksum of the names of images, for `ValImages`."""
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()


def read_history(folder: Path) -> pd.DataFrame:
    """A row for each epoch: ``epoch`` (from 1), ``train_loss``, ``val_loss``, ``val_map``."""
    return _read_table(folder / _HISTORY)


def read_sigmas(folder: Path) -> pd.DataFrame:
    """A row for each epoch (from 0) and weight.

    Columns ``epoch``, ``weight``, ``layer``, ``normalized``, ``sigma`` and ``raw_sigma``.
    """
    return _read_table(folder / _SIGMAS)


def check_model(folder: Path) -> None:
    """Compare every file with ``SHA256SUMS``.

    Raises
    ------
    SnojoeError
        That names what is missing or damaged.
    """
    check_sums(folder)


def _read_tensors(folder: Path, *names: str, file: str = _WEIGHTS) -> list[NDArray[Any]]:
    with safe_open(folder / file, framework="numpy") as tensors:
        return [tensors.get_tensor(name) for name in names]


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path)


def _missing(folder: Path, name: str) -> SnojoeError:
    return SnojoeError(f"{folder}: not a model directory: {folder / name} is missing")
