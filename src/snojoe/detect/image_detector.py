"""Images to decisions: a model directory, or several, at work on whatever images there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from snojoe.data.images import ImageError, decode, to_square
from snojoe.detect.scores import AUTO, chosen_score, measured_scores, stored_detector
from snojoe.measures.metrics import FloatArray
from snojoe.model.classifier import Classifier
from snojoe.model.decision import ACCEPT, JOINT_ENERGY, Decision, Detection, load_decision
from snojoe.model.folder import ModelConfig, load_model, read_val_energies
from snojoe.model.pixels import default_device
from snojoe.model.preprocessing import Preprocessing, read_resize
from snojoe.support.errors import SnojoeError
from snojoe.support.threads import parallel

if TYPE_CHECKING:
    from snojoe.detectors import Detector, ModelOutputs

AnyImage: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | torch.Tensor
"""A file's path, a PIL image, a uint8 array (H, W, 3) or tensor (3, H, W); or grey: (H, W), with or
without a channel."""

V = TypeVar("V")

_BATCH_SIZE = 16


class ImageDetector:
    """Eq. 11 for images; made by `load_detector`.

    Parameters
    ----------
    models : sequence of Classifier
    decision : Decision
    made : Preprocessing
        What the models were trained for; each normalises by itself.
    scorers : sequence of Detector
        What each model's outputs are decided by; without any, joint energy.
    measured : mapping of str to (n,) float64 array
        Scores of images that it was measured on: "id", in-distribution, and each OOD set by name;
        empty where none are known.

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
        scorers: Sequence[Detector] = (),
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

    def __call__(self, images: Iterable[AnyImage]) -> list[Detection]:
        """Detect in images of any kind and size.

        Raises
        ------
        ImageError
            At the first image that cannot be used, naming it; `stream` goes on instead.
        """
        if isinstance(images, str | os.PathLike | Image.Image):
            raise TypeError(f"expected several images, such as [image]; got {images!r}")
        found = []
        for i, (image, result) in enumerate(self.stream(images)):
            if isinstance(result, ImageError):
                name = image if isinstance(image, str | os.PathLike) else f"image {i}"
                raise ImageError(f"{name}: {result}")
            found.append(result)
        return found

    def stream(
        self, images: Iterable[AnyImage]
    ) -> Iterator[tuple[AnyImage, Detection | ImageError]]:
        """Yield each image with its detection, or with the reason why there is none, in order.

        Images are decoded in threads while the models work on earlier ones. Memory does not grow
        with their number: a thread has one decoded image, and three batches of 16 are there at the
        models' size.
        """
        for image, result, _ in self.stream_with(images, lambda rgb: None):
            yield image, result

    def stream_with(
        self, images: Iterable[AnyImage], view: Callable[[Image.Image], V]
    ) -> Iterator[tuple[AnyImage, Detection | ImageError, V | None]]:
        """As `stream`, each with what `view` makes of the decoded image in RGB; None of an error.

        `view` is called in the threads that decode.
        """

        def seen(image: AnyImage) -> tuple[AnyImage, NDArray[np.uint8] | ImageError, V | None]:
            views: list[V] = []
            pixels = self._pixels(image, lambda rgb: views.append(view(rgb)))
            return image, pixels, views[0] if views else None

        ahead = parallel(seen, images, 2 * _BATCH_SIZE)
        while batch := list(islice(ahead, _BATCH_SIZE)):
            usable = [pixels for _, pixels, _ in batch if not isinstance(pixels, ImageError)]
            detections = iter(self._detect(np.stack(usable)) if usable else ())
            for image, pixels, viewed in batch:
                result = pixels if isinstance(pixels, ImageError) else next(detections)
                yield image, result, viewed

    @torch.inference_mode()
    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, image_size, image_size, 3) -> (models, n, K)."""
        images = torch.from_numpy(pixels).to(self.device)
        logits = (model(model.normalise(images)) for model in self.models)
        return np.stack([each.float().cpu().numpy() for each in logits])

    @torch.inference_mode()
    def outputs(self, pixels: NDArray[np.uint8]) -> list[ModelOutputs]:
        """(n, image_size, image_size, 3) -> what each model says."""
        from snojoe.detectors import ModelOutputs

        images = torch.from_numpy(pixels).to(self.device)
        found = (model.outputs(model.normalise(images)) for model in self.models)
        return [ModelOutputs(*(each.float().cpu().numpy() for each in of)) for of in found]

    def _detect(self, pixels: NDArray[np.uint8]) -> list[Detection]:
        if not self.scorers:
            return self.decision(self.logits(pixels))
        outputs = self.outputs(pixels)
        scores = [
            scorer.score_outputs(each) for scorer, each in zip(self.scorers, outputs, strict=True)
        ]
        return self.decision(np.stack([each.logits for each in outputs]), np.stack(scores))

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
    run_code : bool
        Whether the code of a network of one's own may be run, which lies in its directory.

    Raises
    ------
    SnojoeError
        If a folder is no model directory or one of another version, the models do not belong
        together, a share is out of range or cannot be promised, or there is no stored detector of
        `score` that belongs to the model.
    """
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
        scorers = {name: stored_detector(Path(name), score) for name in loaded}
        calibration = {name: scorer.calibration_ for name, scorer in scorers.items()}
    decision = load_decision(
        {name: (config, calibration[name]) for name, (_, config, _) in loaded.items()},
        accept,
        confidence,
        score,
    )
    models = [model for model, _, _ in loaded.values()]
    measured = measured_scores(map(Path, loaded), score)
    made = configs[0].preprocessing
    return ImageDetector(models, decision, made, list(scorers.values()), measured)


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
    if isinstance(image, Image.Image):
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
