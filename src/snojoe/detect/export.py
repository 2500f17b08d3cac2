"""A model as one ONNX file: an image of any size in, the decision out."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from snojoe.detect.image_detector import ImageDetector, load_detector
from snojoe.model.classifier import Classifier
from snojoe.model.own_network import OwnClassifier
from snojoe.model.preprocessing import Preprocessing, read_resize
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file

if TYPE_CHECKING:
    import onnxruntime

TOLERANCE = 1e-4
"""Largest difference from PyTorch that an exported file may have."""

_OUTPUTS = ("probabilities", "energy", "in_distribution")
_OPSET = 18  # the first whose Resize can antialias


class DetectorModule(nn.Module):
    """What is exported: resize, normalisation, network and decision.

    PIL rounds to whole pixel values while it resizes, and this does not: a rounded value would
    flip where two runtimes differ in the last bit.
    """

    def __init__(self, model: Classifier, made: Preprocessing, tau: float) -> None:
        super().__init__()
        self.model = model
        self.edge = made.image_size
        self.resize = read_resize(made.resize)
        self.tau = tau

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(H, W, 3) uint8 -> (K,) probabilities, energy (eq. 10) and decision (eq. 11)."""
        pixels = self._square(image.permute(2, 0, 1)[None].float())
        logits = self.model(self.model.normalise(pixels.permute(0, 2, 3, 1)))[0]
        energy = F.softplus(logits).sum()
        return logits.sigmoid(), energy, energy >= self.tau

    def _square(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, 3, edge, edge), as `snojoe.data.images.to_square`."""
        height, width = image.shape[2:]
        # The shorter side's gets `shorter`: no branch, since the exported file takes any size.
        shorter, _ = self.resize.size(1, 1, self.edge)
        size: tuple[Any, ...] = (shorter, shorter)
        if self.resize.aspect_kept:
            sides = ((shorter * height) // width, (shorter * width) // height)
            size = tuple(torch.sym_max(shorter, side) for side in sides)
        resized = F.interpolate(image, size, mode=self.resize.interpolation, antialias=True)
        top, left = (_half(side - self.edge) for side in size)
        return resized[:, :, top : top + self.edge, left : left + self.edge]


def _half(number: Any) -> Any:
    """``round(number / 2)``, whose halves go to even numbers, of what may be a symbol."""
    return (number + (number % 2) * ((number // 2) % 2)) // 2


def export_onnx(folder: Path, target: Path, accept: float, *, run_code: bool = False) -> float:
    """Write a model directory as an ONNX file and check it against PyTorch.

    The input ``image`` is (H, W, 3) uint8; the outputs are ``probabilities`` (K,) and ``energy``,
    float32, and ``in_distribution``, bool. The metadata hold ``classes`` and ``label_thresholds``
    (JSON lists), ``tau`` and ``accept``.

    ``run_code`` is that of `load_detector`.

    Returns
    -------
    float
        The largest difference from PyTorch, of probabilities and energy, on random images.

    Raises
    ------
    SnojoeError
        If the extra ``onnx`` is not installed, the folder is no model directory, or the file
        differs from PyTorch by more than `TOLERANCE`. Nothing is then written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise SnojoeError(f"{error}; expected the extra: pip install -e '.[onnx]'") from None

    detector = load_detector(folder, accept, run_code=run_code)
    module = detector_module(detector)
    rng = np.random.default_rng(0)
    shapes = [(37, 53, 3), (400, 300, 3)]
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    # Before the export, so that nothing which is cached on the way is the tracer's.
    expected = [evaluate(module, image) for image in images]
    with _quiet():
        program = torch.onnx.export(
            module,
            (torch.from_numpy(images[0]),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=_OUTPUTS,
            dynamic_shapes={"image": {0: torch.export.Dim("H"), 1: torch.export.Dim("W")}},
            verbose=False,
        )
    if program is None:
        raise SnojoeError(f"{folder}: torch.onnx gave no program")
    proto = program.model_proto
    onnx.helper.set_model_props(proto, _metadata(detector, accept))
    with atomic_file(target) as temporary:
        onnx.save(proto, str(temporary))
        session = onnxruntime.InferenceSession(temporary)
        difference = max(map(largest_difference, expected, (run(session, i) for i in images)))
        if not difference <= TOLERANCE:
            raise SnojoeError(f"{target}: differs from PyTorch by {difference:.1e}; not written")
    return difference


def detector_module(detector: ImageDetector) -> DetectorModule:
    """The first model of a detector, as it is exported."""
    model = detector.models[0].to("cpu")
    if isinstance(model, OwnClassifier):
        model.unhook()
    return DetectorModule(model, detector.preprocessing, detector.decision.tau).eval()


def evaluate(module: DetectorModule, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Probabilities and energy of an (H, W, 3) image, by PyTorch."""
    with torch.inference_mode():
        return [value.numpy() for value in module(torch.from_numpy(image))[:2]]


def run(
    session: onnxruntime.InferenceSession, image: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """The same by ONNX Runtime."""
    return session.run(None, {"image": image})[:2]


def largest_difference(one: list[NDArray[np.float32]], other: list[NDArray[np.float32]]) -> float:
    """Between two results, in any value."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def _metadata(detector: ImageDetector, accept: float) -> dict[str, str]:
    decision = detector.decision
    return {
        "classes": json.dumps(list(decision.classes)),
        "label_thresholds": json.dumps(decision.label_thresholds.tolist()),
        "tau": repr(decision.tau),
        "accept": repr(accept),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
