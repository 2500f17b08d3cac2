"""Images to decisions: a model directory, or several, at work on whatever images there are."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from snojoe.data.images import ImageError, decode, to_square
from snojoe.detect.scores import (
    AUTO,
    Scorer,
    chosen_score,
    measured_scores,
    refuse_noise,
    stored_scorer,
)
from snojoe.measures.metrics import FloatArray
from snojoe.model.classifier import Classifier, Outputs
from snojoe.model.decision import ACCEPT, JOINT_ENERGY, Decision, Detection, load_decision
from snojoe.model.folder import ModelConfig, load_model, read_val_energies, weights_digest
from snojoe.model.pixels import default_device
from snojoe.model.preprocessing import Preprocessing, read_resize
from snojoe.support.errors import SnojoeError
from snojoe.support.threads import parallel

if TYPE_CHECKING:
    from snojoe.detectors import ModelOutputs

AnyImage: TypeAlias = (
    str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | torch.Tensor
)
"""A file's path or its content, a PIL image, a uint8 array (H, W, 3) or tensor (3, H, W); or grey:
(H, W), with or without a channel."""

TORCH, ONNX = ENGINES = ("torch", "onnx")

Given = TypeVar("Given", bound=AnyImage)

_BATCH_SIZE = 16

T = TypeVar("T")
V = TypeVar("V")


class ImageDetector:
    """Eq. 11 for images; made by `load_detector`.

    Parameters
    ----------
    models : sequence of Classifier
    decision : Decision
    made : Preprocessing
        What the models were trained for; each normalises by itself.
    scorers : sequence of Scorer
        What each model's outputs are decided by; without any, joint energy.
    measured : mapping of str to (n,) float64 array
        Scores of images that it was measured on: "id", in-distribution, and each OOD set by name;
        empty where none are known.

    Attributes
    ----------
    decoding_threads : int or None
        As many as there are cores, unless somebody shares them out.

    Examples
    --------
    >>> detector = load_detector("models/sn9/seed0")                     # doctest: +SKIP
    >>> [found.in_distribution for found in detector(["a.jpg", "b.png"])]  # doctest: +SKIP
    [True, False]
    """

    def __init__(
        self,
        models: Sequence[Classifier],
        decision: Decision,
        made: Preprocessing,
        scorers: Sequence[Scorer] = (),
        measured: Mapping[str, FloatArray] | None = None,
    ) -> None:
        self.device = default_device()
        for model in models:
            model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.models = models
        self.decision = decision
        self.preprocessing = made
        self.scorers = scorers
        self.measured = measured or {}
        self.decoding_threads: int | None = None

    def __call__(self, images: Iterable[AnyImage]) -> list[Detection]:
        """Detect in images of any kind and size.

        Raises
        ------
        ImageError
            At the first image that cannot be used, naming it; `stream` goes on instead.
        """
        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            raise TypeError(f"expected several images, such as [image]; got {reprlib.repr(images)}")
        found = []
        for i, (image, result) in enumerate(self.stream(images)):
            if isinstance(result, ImageError):
                name = image if isinstance(image, str | os.PathLike) else f"image {i}"
                raise ImageError(f"{name}: {result}")
            found.append(result)
        return found

    def stream(self, images: Iterable[Given]) -> Iterator[tuple[Given, Detection | ImageError]]:
        """Yield each image with its detection, or with the reason why there is none, in order.

        Images are decoded in threads while the models work on earlier ones. Memory does not grow
        with their number: a thread has one decoded image, and three batches of 16 are there at the
        models' size.
        """
        return self.mapped(images, self._detect)

    def mapped(
        self, images: Iterable[Given], function: Callable[[NDArray[np.uint8]], Sequence[T]]
    ) -> Iterator[tuple[Given, T | ImageError]]:
        """`stream` with another function of a batch's (n, image_size, image_size, 3) pixels."""
        for image, result, _ in self._batched(images, function, lambda rgb: None):
            yield image, result

    def stream_with(
        self, images: Iterable[Given], view: Callable[[Image.Image], V]
    ) -> Iterator[tuple[Given, Detection | ImageError, V | None]]:
        """As `stream`, each with what `view` makes of the decoded image in RGB; None of an error.

        `view` is called in the threads that decode.
        """
        return self._batched(images, self._detect, view)

    def _batched(
        self,
        images: Iterable[Given],
        function: Callable[[NDArray[np.uint8]], Sequence[T]],
        view: Callable[[Image.Image], V],
    ) -> Iterator[tuple[Given, T | ImageError, V | None]]:
        def seen(image: Given) -> tuple[Given, NDArray[np.uint8] | ImageError, V | None]:
            views: list[V] = []
            pixels = self._pixels(image, lambda rgb: views.append(view(rgb)))
            return image, pixels, views[0] if views else None

        ahead = parallel(seen, images, 2 * _BATCH_SIZE, self.decoding_threads)
        while batch := list(islice(ahead, _BATCH_SIZE)):
            usable = [pixels for _, pixels, _ in batch if not isinstance(pixels, ImageError)]
            results = iter(function(np.stack(usable)) if usable else ())
            for image, pixels, viewed in batch:
                result = pixels if isinstance(pixels, ImageError) else next(results)
                yield image, result, viewed

    @torch.inference_mode()
    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, image_size, image_size, 3) -> (models, n, K)."""
        images = torch.from_numpy(pixels).to(self.device)
        logits = (model(model.normalise(images)) for model in self.models)
        return np.stack([each.float().cpu().numpy() for each in logits])

    def scored(
        self, pixels: NDArray[np.uint8], scorers: Sequence[Sequence[Scorer]]
    ) -> tuple[NDArray[np.float32], list[list[FloatArray]]]:
        """What the models and their detectors say of a batch.

        Parameters
        ----------
        pixels : (n, image_size, image_size, 3) uint8 array
        scorers : sequence of sequence of Scorer
            For each model.

        Returns
        -------
        logits : (models, n, K) float32
        scores : list of list of (n,) float64 array
            For each model those of its scorers.
        """
        from snojoe.inference.perturbation import outputs_with_noise

        images = torch.from_numpy(pixels).to(self.device)
        logits, scores = [], []
        for model, own in zip(self.models, scorers, strict=True):
            noises = {scorer.name: scorer.noise for scorer in own if scorer.noise}
            clean, noisy = outputs_with_noise(model, model.normalise(images), noises)
            logits.append(clean.logits.float().cpu().numpy())
            read = [_arrays(noisy.get(scorer.name, clean)) for scorer in own]
            scores.append([scorer(each) for scorer, each in zip(own, read, strict=True)])
        return np.stack(logits), scores

    def _detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        if not self.scorers:
            return self.decision(self.logits(pixels))
        logits, scores = self.scored(pixels, [[scorer] for scorer in self.scorers])
        return self.decision(logits, np.concatenate(scores))

    def _pixels(
        self, image: AnyImage, look: Callable[[Image.Image], None] = lambda rgb: None
    ) -> NDArray[np.uint8] | ImageError:
        try:
            rgb = _rgb(image)
            pixels = to_square(rgb, self.preprocessing)
            look(rgb)
            return pixels
        except ImageError as error:
            return error
        except OSError as error:  # a name that is too long, a folder that is closed to us
            return ImageError(error.strerror or str(error))


def load_detector(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    accept: float = ACCEPT,
    confidence: float | None = None,
    score: str = JOINT_ENERGY,
    *,
    engine: str = TORCH,
    run_code: bool = False,
) -> ImageDetector:
    """Load a model directory, wherever it lies.

    Parameters
    ----------
    path : path or sequence of paths
        Of several directories, such as the seeds of one experiment, the mean score decides.
    accept : float in (0, 1]
        Share of new in-distribution images that are to be accepted, which sets tau.
    confidence : float in (0, 1), optional
        With which it is to be at least that share, given the images that tau is fitted on; without
        it the share is met on average.
    score : str
        One of ``snojoe.detectors.DETECTORS``, or ``auto``, what pseudo-OOD images made of val
        would choose. Any but joint energy needs the detector that the
        `score` stage stored: in ``scores`` within the model's folder, or, of ``models/sn9/seed0``,
        in ``detectors/sn9/seed0`` beside ``models``.
    engine : "torch" or "onnx"
        What computes the network: PyTorch, on an accelerator where there is one, or ONNX Runtime
        (the extra ``onnx``), on the CPU and there mostly faster. `snojoe.detect.onnx_network`
        keeps what it makes of a network in the user's cache.
    run_code : bool
        Whether the code of a network of one's own may be run, which lies in its directory.

    Raises
    ------
    SnojoeError
        If a folder is no model directory or one of another version, the models do not belong
        together, a share is out of range or cannot be promised, there is no stored detector of
        `score` that belongs to the model, or the engine cannot run the network or its score.
    """
    if engine not in ENGINES:
        raise SnojoeError(f"engine: expected one of {', '.join(ENGINES)}; got {engine!r}")
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise SnojoeError("expected at least one model directory")
    loaded = {str(each): _load(Path(each), run_code) for each in paths}
    configs = [config for _, config, _ in loaded.values()]
    sizes = {(config.preprocessing.image_size, config.preprocessing.resize) for config in configs}
    if len(sizes) > 1:
        raise SnojoeError(f"{', '.join(loaded)}: expected one image size; got {sorted(sizes)}")
    if score == AUTO:
        score = chosen_score(list(map(Path, loaded)))
    scorers = {}
    calibration = {name: energies for name, (_, _, energies) in loaded.items()}
    if score != JOINT_ENERGY:
        scorers = {name: stored_scorer(Path(name), score) for name in loaded}
        calibration = {name: each.detector.calibration_ for name, each in scorers.items()}
    decision = load_decision(
        {name: (config, calibration[name]) for name, (_, config, _) in loaded.items()},
        accept,
        confidence,
        score,
    )
    models = [model for model, _, _ in loaded.values()]
    if engine == ONNX:
        models = _under_onnx_runtime(loaded, scorers.values())
    measured = measured_scores(map(Path, loaded), score)
    made = configs[0].preprocessing
    return ImageDetector(models, decision, made, list(scorers.values()), measured)


def _arrays(outputs: Outputs) -> ModelOutputs:
    from snojoe.detectors import ModelOutputs

    return ModelOutputs(*(each.float().cpu().numpy() for each in outputs))


def _under_onnx_runtime(
    loaded: Mapping[str, tuple[Classifier, ModelConfig, FloatArray]], scorers: Iterable[Scorer]
) -> list[Classifier]:
    from snojoe.detect.onnx_network import under_onnx_runtime

    refuse_noise(scorers, f"engine {TORCH}")
    return [
        under_onnx_runtime(
            model.eval(), config.preprocessing.image_size, name, weights_digest(Path(name))
        )
        for name, (model, config, _) in loaded.items()
    ]


def _load(folder: Path, run_code: bool) -> tuple[Classifier, ModelConfig, FloatArray]:
    model, config = load_model(folder, run_code=run_code)
    made_for = config.preprocessing
    try:
        read_resize(made_for.resize)
    except ValueError:
        raise SnojoeError(
            f"{folder}: this version has no such preprocessing: {made_for.model_dump()}"
        ) from None
    return model, config, read_val_energies(folder)


def _rgb(image: AnyImage) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        return _read(Path(image))
    if isinstance(image, bytes | Image.Image):
        return decode(image)
    if isinstance(image, torch.Tensor):
        expected = "(3, H, W), (1, H, W) or (H, W) uint8 tensor"
        image = (image.permute(1, 2, 0) if image.ndim == 3 else image).cpu().numpy()
    else:
        expected = "(H, W, 3), (H, W, 1) or (H, W) uint8 array"
    pixels = np.asarray(image)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in (1, 3):
        raise ImageError(f"expected a {expected}; got {pixels.dtype} of shape {pixels.shape}")
    if not pixels.size:
        raise ImageError("empty")
    return Image.fromarray(pixels if channels == 3 else pixels.reshape(pixels.shape[:2])).convert(
        "RGB"
    )


def _read(path: Path) -> Image.Image:
    if path.is_file():
        return decode(path)
    if path.is_dir():
        raise ImageError("a folder without images")
    if path.exists():
        raise ImageError("not a regular file")
    raise ImageError(f"a broken link to {path.readlink()}" if path.is_symlink() else "no such file")
