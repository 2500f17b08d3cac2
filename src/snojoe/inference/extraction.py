"""What any network says of any images: from a model of one's own to arrays for the detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.model.own_network import submodule
from snojoe.spectral_norm.shapes import modes_kept
from snojoe.support.progress import progress

Item: TypeAlias = Image.Image | Tensor | Sequence[Any] | Mapping[str, Any]
"""An image, or a batch: (n, 3, H, W), with labels after it, or a mapping as Hugging Face has it."""

_TOLERANCE = 1e-3


def extract(
    model: nn.Module,
    images: Iterable[Item],
    head: str | None = "fc",
    *,
    features: str | None = None,
    transform: Callable[[Image.Image], Tensor] | None = None,
    batch_size: int = 64,
) -> ModelOutputs:
    """Run a classifier over images and collect what every score reads.

    Parameters
    ----------
    model : nn.Module
        Gives (n, K) logits, as a tensor or as ``.logits``. It stays on its device and in its mode,
        and is run in eval mode.
    images : iterable
        PIL images, tensors (3, H, W), or batches of them, such as a DataLoader gives: (n, 3, H, W),
        or with labels (n, K) after it, or a mapping with ``pixel_values`` and perhaps ``labels``.
        Tensors are what the network takes; they are not normalised here. One batch at a time is
        held.
    head : str or None
        Name of the last linear layer; what it reads is the hidden layer. None where the head is
        not one linear layer: ``hidden`` then has no columns.
    features : str, optional
        Name of a module whose output is the pooled features (n, C), also as (n, C, 1, 1). Without
        it they are the hidden layer, as where the head is one linear layer on the pooled features.
    transform : callable, optional
        From a PIL image in RGB to a tensor (3, H, W); needed where ``images`` has such.
    batch_size : int
        For images that do not come in batches.

    Returns
    -------
    ModelOutputs
        ``logits`` (n, K), ``features`` (n, C), ``hidden`` (n, D), float32, and ``labels`` (n, K)
        where every batch has them.

    Raises
    ------
    ValueError
        If there is no image, no such module, the head is not linear or does not give the logits,
        or an output is of another shape.
    """
    last = None if head is None else _linear(model, head)
    pooled = None if features is None else submodule(model, features)
    seen: dict[str, Tensor] = {}
    hooks = []
    if last is not None:
        hooks.append(last.register_forward_pre_hook(lambda _, args: seen.update(hidden=args[0])))
    if pooled is not None:
        hooks.append(pooled.register_forward_hook(lambda _, args, out: seen.update(features=out)))
    parameter = next(model.parameters(), torch.zeros(0))
    found: dict[str, list[np.ndarray]] = {"logits": [], "hidden": [], "features": []}
    labels: list[np.ndarray] = []
    total = len(images) if isinstance(images, Sized) else None
    try:
        with modes_kept(model), torch.inference_mode():
            model.eval()
            shown = progress(images, total=total, desc="extract", unit="item")
            for batch, known in _batches(shown, transform, batch_size):
                seen.clear()
                logits = _logits(model(batch.to(parameter.device, parameter.dtype)))
                for name, values in _rows(logits, seen, last, head, features).items():
                    found[name].append(values.float().cpu().numpy())
                if known is not None:
                    labels.append(np.asarray(torch.as_tensor(known).cpu()))
    finally:
        for hook in hooks:
            hook.remove()
    if not found["logits"]:
        raise ValueError("images: expected at least one")
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    complete = len(labels) == len(found["logits"])
    return ModelOutputs(**arrays, labels=np.concatenate(labels) if complete else None)


def linear_head(model: nn.Module, head: str = "fc") -> LinearHead:
    """The last linear layer of a model by its name, as the detectors take it.

    Raises
    ------
    ValueError
        If there is no such module, or it is not linear.
    """
    layer = _linear(model, head)
    weight = layer.weight.detach().float().numpy(force=True)
    bias: Tensor | None = layer._parameters["bias"]
    if bias is None:
        return LinearHead(weight, np.zeros(len(weight), np.float32))
    return LinearHead(weight, bias.detach().float().numpy(force=True))


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = submodule(model, name)
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"head={name!r}: expected a linear layer; got {type(layer).__name__}. Give head=None "
            "where the head is not one linear layer: the scores that read it are then left out"
        )
    return layer


def _batches(
    images: Iterable[Item], transform: Callable[[Image.Image], Tensor] | None, batch_size: int
) -> Iterator[tuple[Tensor, Any]]:
    """Batches (n, 3, H, W) with what is known of their labels."""
    single: list[Tensor] = []
    for item in images:
        image, known = _taken_apart(item)
        if isinstance(image, Image.Image):
            if transform is None:
                raise ValueError("transform: expected one, to make tensors of PIL images")
            image = transform(image.convert("RGB"))
        if not isinstance(image, Tensor) or image.ndim not in (3, 4):
            shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"images: expected tensors (3, H, W) or (n, 3, H, W); got {shape}")
        if image.ndim == 4:
            if single:
                yield torch.stack(single), None
                single = []
            yield image, known
            continue
        single.append(image)
        if len(single) == batch_size:
            yield torch.stack(single), None
            single = []
    if single:
        yield torch.stack(single), None


def _taken_apart(item: Item) -> tuple[Any, Any]:
    """The image or images of an item, and labels (n, K) where it has some."""
    if isinstance(item, Mapping):
        return item["pixel_values"], _matrix(item.get("labels"))
    if isinstance(item, Sequence):
        return item[0], _matrix(item[1] if len(item) > 1 else None)
    return item, None


def _matrix(labels: Any) -> Any:
    return labels if getattr(labels, "ndim", 0) == 2 else None


def _logits(output: Any) -> Tensor:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
        raise ValueError(f"expected logits (n, K) from the model; got {shape}")
    return logits


def _rows(
    logits: Tensor,
    seen: Mapping[str, Tensor],
    last: nn.Linear | None,
    head: str | None,
    features: str | None,
) -> dict[str, Tensor]:
    """The three arrays of a batch, seen to fit together."""
    n = len(logits)
    hidden = logits.new_zeros(n, 0)
    if last is not None:
        hidden = _two_dimensional(seen.get("hidden"), n, f"what head={head!r} reads")
        again = nn.functional.linear(hidden, last.weight, last.bias)
        if again.shape != logits.shape or not _close(again, logits):
            raise ValueError(f"head={head!r}: expected the last linear layer; it gives no logits")
    pooled = hidden
    if features is not None:
        pooled = _two_dimensional(seen.get("features"), n, f"features={features!r}")
    return {"logits": logits, "hidden": hidden, "features": pooled}


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.float(), b.float(), rtol=_TOLERANCE, atol=_TOLERANCE)


def _two_dimensional(values: Any, n: int, what: str) -> Tensor:
    if isinstance(values, Tensor) and values.ndim > 2 and values.shape[2:].numel() == 1:
        values = values.flatten(1)
    if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != n:
        shape = tuple(values.shape) if isinstance(values, Tensor) else "nothing"
        raise ValueError(f"{what}: expected ({n}, D); got {shape}")
    return values
