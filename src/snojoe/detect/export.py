"""A model as one ONNX file: an image of any size in, the decision out."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from snojoe.detect.image_detector import ImageDetector, load_detector
from snojoe.detect.scores import refuse_noise
from snojoe.detectors.outputs import ModelOutputs
from snojoe.model.classifier import Classifier
from snojoe.model.decision import JOINT_ENERGY, Decision
from snojoe.model.own_network import OwnClassifier
from snojoe.model.preprocessing import Preprocessing, read_resize
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file

if TYPE_CHECKING:
    import onnx
    import onnxruntime

TOLERANCE = 1e-4
"""Largest difference from PyTorch that an exported file may have."""

_OUTPUTS = ("probabilities", "energy", "in_distribution", "score", "p_value")
_COMPARED = ("probabilities", "energy", "score")
_OPSET = 18  # the first whose Resize can antialias


class DetectorModule(nn.Module):
    """What is exported: resize, normalisation, network, score and decision.

    PIL rounds to whole pixel values while it resizes, and this does not: a rounded value would
    flip where two runtimes differ in the last bit.

    Parameters
    ----------
    model : Classifier
    made : Preprocessing
    decision : Decision
    scorer : nn.Module, optional
        From the model's outputs to (n,) scores; without it joint energy decides.
    """

    def __init__(
        self,
        model: Classifier,
        made: Preprocessing,
        decision: Decision,
        scorer: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.edge = made.image_size
        self.resize = read_resize(made.resize)
        self.scorer = scorer
        self.register_buffer("tau", torch.tensor(decision.tau, dtype=torch.float64))
        self.register_buffer("calibration", torch.from_numpy(decision.calibration))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(H, W, 3) uint8 -> (K,) probabilities, energy (eq. 10), decision (eq. 11), score, p."""
        if self.scorer is None:
            logits = self.model(self.normalised(image))[0]
            energy = score = F.softplus(logits).sum()
        else:
            outputs = self.model.outputs(self.normalised(image))
            logits = outputs.logits[0]
            energy, score = F.softplus(logits).sum(), self.scorer(outputs)[0]
        calibration = self.get_buffer("calibration")
        below = (calibration <= score).sum()
        p_value = (1 + below) / (len(calibration) + 1)
        inside = score >= self.get_buffer("tau")
        return logits.sigmoid(), energy, inside, score.double(), p_value.double()

    def normalised(self, image: Tensor) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, edge, edge) float32, what the network takes."""
        pixels = self._square(image.permute(2, 0, 1)[None].float())
        return self.model.normalise(pixels.permute(0, 2, 3, 1))

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


def export_onnx(
    folder: Path,
    target: Path,
    accept: float,
    score: str = JOINT_ENERGY,
    *,
    run_code: bool = False,
) -> float:
    """Write a model directory as an ONNX file and check it against PyTorch.

    The input ``image`` is (H, W, 3) uint8; the outputs are ``probabilities`` (K,) and ``energy``,
    float32, ``in_distribution``, bool, and ``score`` and ``p_value``, float64. The metadata hold
    ``classes`` and ``label_thresholds`` (JSON lists), ``score``, ``tau`` and ``accept``.

    ``score`` and ``run_code`` are those of `load_detector`.

    Returns
    -------
    float
        The largest difference from PyTorch on random images: of a probability, the energy, and the
        score in its own standard deviations over the images that it is calibrated on.

    Raises
    ------
    SnojoeError
        If the extra ``onnx`` is not installed, the folder is no model directory, the score cannot
        be exported, or the file differs from PyTorch, or the score there from its detector, by
        more than `TOLERANCE`. Nothing is then written.
    """
    need("onnx", "onnxruntime", "onnxscript")  # torch.onnx needs the last
    import onnx
    import onnxruntime

    detector = load_detector(folder, accept, score=score, run_code=run_code)
    module = detector_module(detector)
    rng = np.random.default_rng(0)
    shapes = [(37, 53, 3), (400, 300, 3)]
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    # Before the export, so that nothing which is cached on the way is the tracer's.
    expected = [evaluate(module, image) for image in images]
    differences = [_from_detector(detector, module, image) for image in images]
    proto = to_onnx(module, torch.from_numpy(images[0]), "image", {0: "H", 1: "W"}, _OUTPUTS)
    onnx.helper.set_model_props(proto, _metadata(detector, accept))
    with atomic_file(target) as temporary:
        onnx.save(proto, str(temporary))
        session = onnxruntime.InferenceSession(temporary)
        found = [run(session, image) for image in images]
        unit = _unit(detector.decision)
        differences += [
            largest_difference(*each, unit) for each in zip(expected, found, strict=True)
        ]
        difference = max(differences)
        if not difference <= TOLERANCE:
            raise SnojoeError(f"{target}: differs from PyTorch by {difference:.1e}; not written")
    return difference


def need(*packages: str) -> None:
    """Import packages of the extra ``onnx``.

    Raises
    ------
    SnojoeError
        Where one is not installed; it names the extra.
    """
    try:
        for package in packages:
            import_module(package)
    except ImportError as error:
        raise SnojoeError(f"{error}; expected the extra: pip install -e '.[onnx]'") from None


def to_onnx(
    module: nn.Module, example: Tensor, name: str, sizes: Mapping[int, str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """A module of one tensor as an ONNX graph.

    Parameters
    ----------
    module : nn.Module
        In eval mode.
    example : Tensor
    name : str
        Of the input.
    sizes : mapping of int to str
        Dimensions of the input that may have any size, and what these are called.
    outputs : sequence of str
        Their names.
    """
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=_OPSET,
            input_names=[name],
            output_names=outputs,
            dynamic_shapes=({axis: torch.export.Dim(size) for axis, size in sizes.items()},),
            verbose=False,
        )
    assert program is not None  # since it is not written to a file
    return program.model_proto


def detector_module(detector: ImageDetector) -> DetectorModule:
    """The first model of a detector, as it is exported.

    Raises
    ------
    SnojoeError
        If its score takes more than one pass through the network.
    """
    model = detector.models[0].to("cpu")
    scorer = None
    if detector.scorers:
        from snojoe.detect.score_modules import ScoreModule

        refuse_noise(detector.scorers, "a score that is a function of one pass")
        scorer = ScoreModule(detector.scorers[0].detector)
    elif isinstance(model, OwnClassifier):
        model.unhook()
    return DetectorModule(model, detector.preprocessing, detector.decision, scorer).eval()


def evaluate(module: DetectorModule, image: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
    """Probabilities, energy and score of an (H, W, 3) image, by PyTorch."""
    with torch.inference_mode():
        found = module(torch.from_numpy(image))
    return [found[_OUTPUTS.index(name)].numpy() for name in _COMPARED]


def run(
    session: onnxruntime.InferenceSession, image: NDArray[np.uint8]
) -> list[NDArray[np.floating]]:
    """The same by ONNX Runtime."""
    return session.run(list(_COMPARED), {"image": image})


def largest_difference(
    one: list[NDArray[np.floating]], other: list[NDArray[np.floating]], unit: float = 1.0
) -> float:
    """Between two results, in any value; of the score in `unit`."""
    units = (1.0, 1.0, unit)
    return max(
        float(np.abs(a - b).max()) / each for a, b, each in zip(one, other, units, strict=True)
    )


def _from_detector(
    detector: ImageDetector, module: DetectorModule, image: NDArray[np.uint8]
) -> float:
    """How far the score in PyTorch is from its detector's, in the same unit."""
    if module.scorer is None:
        return 0.0
    with torch.inference_mode():
        outputs = module.model.outputs(module.normalised(torch.from_numpy(image)))
        found = float(module.scorer(outputs)[0])
    arrays = ModelOutputs(*(each.numpy() for each in outputs))
    expected = float(detector.scorers[0](arrays)[0])
    return abs(found - expected) / _unit(detector.decision)


def _unit(decision: Decision) -> float:
    """The standard deviation of the scores that it is calibrated on; of the energy 1."""
    spread = float(decision.calibration.std())
    return spread if decision.score != JOINT_ENERGY and spread else 1.0


def _metadata(detector: ImageDetector, accept: float) -> dict[str, str]:
    decision = detector.decision
    return {
        "classes": json.dumps(list(decision.classes)),
        "label_thresholds": json.dumps(decision.label_thresholds.tolist()),
        "score": decision.score,
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
