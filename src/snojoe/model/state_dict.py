"""State dicts as training scripts save them: read without running code, and fitted to a network."""

from __future__ import annotations

import argparse
import pickle
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snojoe.support.errors import SnojoeError
from snojoe.support.text import first_line

State = dict[str, Tensor]

# Under which names scripts keep the weights, beside an optimiser's state and whatever else.
_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module")

# What scripts write beside them and which only holds values: options, paths, NumPy's numbers.
_SCALAR, _ARRAY = (each.__reduce__()[0] for each in (np.float64(0), np.zeros(0)))
_VALUES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    *(
        (pure, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for pure, name in ((PurePosixPath, "PosixPath"), (PureWindowsPath, "WindowsPath"))
    ),
    *(
        (function, f"{module}.multiarray.{name}")
        for module in ("numpy.core", "numpy._core")
        for function, name in ((_SCALAR, "scalar"), (_ARRAY, "_reconstruct"))
    ),
]

# torchvision renames these on loading: https://github.com/pytorch/vision, models/densenet.py.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")

_SHOWN = 3


def read_state(path: Path) -> State:
    """The tensors of a file by name, whatever the file wraps them in; no code in it is run.

    Safetensors, or what ``torch.save`` wrote: a state dict, or one under ``state_dict`` (Lightning
    too), ``model`` and the like.

    Raises
    ------
    SnojoeError
        If the file is missing, damaged or something else, such as a pointer of git-LFS or a web
        page, or holds objects that only running code could restore.
    """
    try:
        head = _beginning(path)
        if head[8:9] == b"{":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_VALUES):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SnojoeError(f"{path}: no such weights file") from None
    except (pickle.UnpicklingError, AttributeError, TypeError) as error:
        raise SnojoeError(f"{path}: {_of_pickle(path, error)}") from None
    except Exception as error:  # a damaged file makes the readers raise almost anything
        if isinstance(error, SnojoeError):
            raise
        raise SnojoeError(f"{path}: not a readable state dict ({first_line(error)})") from None
    state = _unwrapped(found)
    if state is None:
        what = f"a dict of {_some(map(str, found))}" if isinstance(found, dict) else type(found)
        raise SnojoeError(f"{path}: expected a state dict (name -> tensor); got {what}")
    return state


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"version https://git-lfs"):
        raise SnojoeError(
            f"{path}: a pointer of git-LFS, not the weights themselves; `git lfs pull` brings them"
        )
    if head.lstrip()[:1] == b"<":
        raise SnojoeError(
            f"{path}: a web page, not weights: the address gave a page to look at; download the "
            "file itself"
        )
    return head


def _of_pickle(path: Path, error: Exception) -> str:
    """What is in a file that holds more than values; PyTorch's advice is to run it."""
    unsafe: list[str] = []
    try:
        allowed = {name for each in _VALUES for name in [_name_of(each)]}
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        unsafe = sorted(set(found) - allowed)
    except Exception:  # the oldest format: only the error names the first
        unsafe = re.findall(r"GLOBAL (\S+)", str(error))
    if not unsafe:
        return "not a readable state dict (damaged, or not what torch.save writes)"
    return (
        f"not a readable state dict: it holds objects beside tensors and plain values "
        f"({_some(unsafe)}), and to restore these would run code from the file. Where you trust "
        "it, save its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
    )


def _name_of(value: Any) -> str:
    if isinstance(value, tuple):
        return str(value[1])
    return f"{value.__module__}.{value.__qualname__}"


def _unwrapped(found: Any) -> State | None:
    """The state dict in what a file held: itself, or at one of `_KEYS`, or the only one."""
    if not isinstance(found, Mapping):
        return None
    state = {str(name): each for name, each in found.items() if isinstance(each, Tensor)}
    inner = {name: each for name, each in found.items() if isinstance(each, Mapping)}
    for key in [key for key in _KEYS if key in inner]:
        if nested := _unwrapped(inner[key]):
            return nested
    if state:
        return state
    others = [nested for each in inner.values() if (nested := _flat(each))]
    return others[0] if len(others) == 1 else None


def _flat(found: Mapping[Any, Any]) -> State | None:
    """A mapping that is a state dict as it is; an optimiser's state is none."""
    if found and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in found.items()):
        return dict(found)
    return None


def stripped(state: Mapping[str, Tensor], expected: Container[str]) -> State:
    """What lies under the prefix that leaves most of the expected names: ``module.``, say.

    Raises
    ------
    SnojoeError
        If as many lie under another.
    """
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in expected:
                counts[".".join([*parts[:i], ""]) if i else ""] += 1
    best = counts.most_common(2)
    if len(best) == 2 and best[0][1] == best[1][1]:
        names = " and ".join(repr(prefix) for prefix, _ in best)
        raise SnojoeError(f"two networks fit, under {names}: save the one that you mean alone")
    prefix = best[0][0] if best else ""
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}


def load_trunk(network: nn.Module, head: str, state: Mapping[str, Tensor]) -> None:
    """Load all but the head of a network; a head in the state, of whatever size, is left out.

    Parameters
    ----------
    network : nn.Module
    head : str
        Name of its child that is the head.
    state : mapping of str to Tensor
        By the network's own names, with or without a prefix, and with those of torchvision's old
        DenseNets; of any floating type.

    Raises
    ------
    SnojoeError
        With the first differences.
    """
    blocks = {name for name, _ in network.named_children()} - {head}
    expected = {
        name: tensor for name, tensor in network.state_dict().items() if _top(name) in blocks
    }
    state = {_OLD_DENSENET.sub(r"\1\2.", name): tensor for name, tensor in state.items()}
    found = {n: v for n, v in stripped(state, expected).items() if _top(n) in blocks}
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    check_same(
        missing=[name for name in expected if name not in found and name not in counters],
        unexpected=[name for name in found if name not in expected],
        different=[
            f"{name} is {_kind(found[name])}, expected {_kind(tensor)}"
            for name, tensor in expected.items()
            if name in found and not _fits(found[name], tensor)
        ],
    )
    network.load_state_dict(found, strict=False)


def check_same(missing: Sequence[str], unexpected: Sequence[str], different: Sequence[str]) -> None:
    """Raise a `SnojoeError` with the first of each, if there are any."""
    kinds = {"missing": missing, "unexpected": unexpected, "of another kind": different}
    parts = [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]
    if parts:
        count = sum(map(len, kinds.values()))
        raise SnojoeError(f"({count} differences; {'; '.join(parts)})")


def _fits(found: Tensor, expected: Tensor) -> bool:
    floating = not expected.is_floating_point() or found.is_floating_point()
    return found.shape == expected.shape and floating


def _kind(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"


def _top(name: str) -> str:
    return name.split(".", 1)[0]


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_SHOWN]) + ", ..." * (len(found) > _SHOWN)
