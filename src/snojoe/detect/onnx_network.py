"""A network under ONNX Runtime, which CPUs run faster; what is around it stays PyTorch's and ours.

The graph takes normalised images and gives what every score reads. Making it costs seconds, so that
it is kept in the user's cache, named by all that decides it, and compared with PyTorch whenever it
is opened: what is damaged, or another version's, is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from snojoe import __version__
from snojoe.model.classifier import Classifier, Outputs
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file
from snojoe.support.text import first_line

if TYPE_CHECKING:
    import onnxruntime

TOLERANCE = 1e-4
"""Largest difference from PyTorch, by the largest value of the output where that is above 1."""

_INPUT = "images"


class OnnxClassifier(Classifier):
    """A classifier of which ONNX Runtime computes the outputs, on the CPU, without gradients.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    model : Classifier
        Whose images it takes.
    """

    def __init__(self, session: onnxruntime.InferenceSession, model: Classifier) -> None:
        nn.Module.__init__(self)
        self.session = session
        self.mean, self.std = model.mean, model.std

    def layers(self) -> list[tuple[str, nn.Module]]:
        """None: it is not to be normalised any more."""
        return []

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> pooled features (n, C)."""
        return self.outputs(images).features

    def outputs(self, images: Tensor) -> Outputs:
        """Normalised images (n, 3, H, W) -> logits, features and hidden layer."""
        return Outputs(*self._run(images, Outputs._fields))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (n, 3, H, W) -> logits (n, K)."""
        (logits,) = self._run(images, ("logits",))
        return logits

    def _run(self, images: Tensor, names: tuple[str, ...]) -> list[Tensor]:
        arrays = self.session.run(names, {_INPUT: images.cpu().contiguous().numpy()})
        return [torch.from_numpy(each) for each in arrays]


class _Network(nn.Module):
    """What is exported."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.outputs(images)


def under_onnx_runtime(
    model: Classifier, image_size: int, name: str, digest: str
) -> OnnxClassifier:
    """The same network under ONNX Runtime, on as many threads as PyTorch has.

    Parameters
    ----------
    model : Classifier
        On the CPU, in eval mode.
    image_size : int
    name : str
        What messages call it.
    digest : str
        Of the weights.

    Raises
    ------
    SnojoeError
        If the extra ``onnx`` is not installed, the network cannot be exported, or what ONNX Runtime
        gives differs from PyTorch by more than `TOLERANCE`.
    """
    from snojoe.detect.export import need

    need("onnxruntime")
    import onnxruntime

    decides = [__version__, torch.__version__, onnxruntime.__version__, digest, image_size]
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
    kept = cache_folder() / f"{key}.onnx"
    images = model.normalise(_noise(image_size))
    with torch.inference_mode():
        expected = model.outputs(images)

    def difference(found: OnnxClassifier) -> float:
        pairs = zip(found.outputs(images), expected, strict=True)
        return max(_difference(*pair) for pair in pairs)

    if os.access(kept, os.R_OK):
        with contextlib.suppress(Exception):  # ONNX Runtime's own, of a damaged file
            found = OnnxClassifier(_session(str(kept)), model)
            if difference(found) <= TOLERANCE:
                return found
    print(f"{name}: is made ready for ONNX Runtime", file=sys.stderr, flush=True)
    need("onnx", "onnxscript")  # of the exporter, which takes seconds to import
    try:
        # Of other images than are compared: a graph that holds their number is found out.
        content = _exported(model, images[1:])
        made = OnnxClassifier(_session(content), model)
        off = difference(made)
    except Exception as error:  # what exporter and runtime raise of a network has no common type
        raise SnojoeError(
            f"{name}: ONNX Runtime cannot run it ({first_line(error)}); expected engine torch"
        ) from error
    if not off <= TOLERANCE:
        raise SnojoeError(
            f"{name}: ONNX Runtime differs from PyTorch by {off:.1e}; expected engine torch"
        )
    # Without a cache the next process makes it again.
    with contextlib.suppress(OSError, SnojoeError), atomic_file(kept) as temporary:
        temporary.write_bytes(content)
    return made


def cache_folder() -> Path:
    """Where graphs are kept, of which any may be deleted."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:  # a user without a home, who keeps nothing
        root = Path(os.devnull)
    return root / "snojoe" / "onnx"


def _noise(image_size: int) -> Tensor:
    """Three images, (3, image_size, image_size, 3) uint8."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (3, image_size, image_size, 3), np.uint8))


def _difference(found: Tensor, expected: Tensor) -> float:
    if not expected.numel():  # the hidden layer of a network without a linear head
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1))


def _exported(model: Classifier, images: Tensor) -> bytes:
    from snojoe.detect.export import to_onnx

    proto = to_onnx(_Network(model).eval(), images, _INPUT, {0: "n"}, Outputs._fields)
    content: bytes = proto.SerializeToString()
    return content


def _session(model: str | bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Threads that wait by spinning would take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
