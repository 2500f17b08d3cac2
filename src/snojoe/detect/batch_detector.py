"""Columns of images to columns of decisions, for engines that map batches on many machines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snojoe.data.images import ImageError
from snojoe.model.decision import ACCEPT, JOINT_ENERGY, Decision, Detection
from snojoe.support.errors import SnojoeError

if TYPE_CHECKING:
    from snojoe.detect.image_detector import ImageDetector


class BatchDetector:
    """What `snojoe.load_detector` gives, as a function of batches.

    The models are loaded where the first batch comes, once, and do not travel: pickled, the object
    is a path and its options. It decodes in as many threads as PyTorch has in this process, which
    is what Ray and Spark allow a worker.

    Parameters
    ----------
    path : path or sequence of paths
        As of `snojoe.load_detector`, as each worker sees them; made absolute here.
    column : str
        Which column holds the images: contents of files (bytes), decoded here as ``snojoe detect``
        does; paths (str); or pixels that somebody decoded, uint8 (H, W, 3), stacked or not.
    accept, confidence, score, engine, run_code
        As of `snojoe.load_detector`.

    Examples
    --------
    >>> files = ray.data.read_binary_files("photos", include_paths=True)     # doctest: +SKIP
    >>> found = files.map_batches(                                           # doctest: +SKIP
    ...     snojoe.BatchDetector,
    ...     fn_constructor_args=["/models/seed0"],
    ...     compute=ray.data.ActorPoolStrategy(size=2),
    ... )
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        column: str = "bytes",
        accept: float = ACCEPT,
        confidence: float | None = None,
        score: str = JOINT_ENERGY,
        *,
        engine: str = "torch",
        run_code: bool = False,
    ) -> None:
        paths = [path] if isinstance(path, str | os.PathLike) else path
        self.paths = [Path(each).absolute() for each in paths]
        self.column = column
        self.accept = accept
        self.confidence = confidence
        self.score = score
        self.engine = engine
        self.run_code = run_code

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Detect in n images.

        Parameters
        ----------
        batch : mapping of str to (n,) or (n, ...) array
            A dict of arrays, or a pandas frame.

        Returns
        -------
        dict
            The other columns of the batch as they are, its paths too, and those of
            ``snojoe detect --format csv``, not rounded: ``error`` (str, "" where there is none),
            ``in_distribution`` (bool), ``energy``, ``energy_std``, ``score_name``, ``score``,
            ``tau``, ``p_value``, ``labels`` (str, joined by ";"), and of each label
            ``p(<label>)`` and ``share(<label>)``. An image that cannot be used harms no other:
            ``error`` says why, it is not in-distribution, its numbers are NaN.

        Raises
        ------
        SnojoeError
            If the batch has no such column, or one of those that are to come; or as of
            `snojoe.load_detector`.
        """
        if self.column not in batch:
            raise SnojoeError(
                f"column: expected one of the batch's ({', '.join(batch)}); got {self.column!r}"
            )
        images = [bytes(i) if isinstance(i, bytearray) else i for i in batch[self.column]]
        results = [result for _, result in self._detector.stream(images)]
        found = _columns(results, self._detector.decision)
        if taken := sorted(found.keys() & {*batch}):
            raise SnojoeError(f"{', '.join(taken)}: expected no such column in the batch")
        named = all(isinstance(image, str) for image in images)
        kept = {name: batch[name] for name in batch if named or name != self.column}
        return {**kept, **found}

    @cached_property
    def _detector(self) -> ImageDetector:
        import torch

        from snojoe.detect.image_detector import load_detector

        detector = load_detector(
            self.paths,
            self.accept,
            self.confidence,
            self.score,
            engine=self.engine,
            run_code=self.run_code,
        )
        detector.decoding_threads = torch.get_num_threads()
        return detector

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_detector"}


def _columns(
    results: Sequence[Detection | ImageError], decision: Decision
) -> dict[str, NDArray[Any]]:
    found = [each for each in results if isinstance(each, Detection)]

    def filled(values: Iterable[Any], missing: Any, dtype: type) -> NDArray[Any]:
        """One cell per image, of the usable ones' values."""
        rest = iter(values)
        cells = [next(rest) if isinstance(each, Detection) else missing for each in results]
        return np.array(cells, dtype)

    def numbers(values: Iterable[float | None]) -> NDArray[Any]:
        return filled(values, np.nan, np.float64)  # None, a single model's deviation, is NaN too

    errors = [str(each) if isinstance(each, ImageError) else "" for each in results]
    return {
        "error": np.array(errors, np.str_),
        "in_distribution": filled((each.in_distribution for each in found), False, bool),
        "energy": numbers(each.energy for each in found),
        "energy_std": numbers(each.energy_std for each in found),
        "score_name": np.full(len(results), decision.score),
        "score": numbers(each.score for each in found),
        "tau": np.full(len(results), decision.tau),
        "p_value": numbers(each.p_value for each in found),
        "labels": filled((";".join(each.labels) for each in found), "", np.str_),
        **{
            f"p({name})": numbers(each.probabilities[name] for each in found)
            for name in decision.classes
        },
        **{
            f"share({name})": numbers(each.contributions[name] for each in found)
            for name in decision.classes
        },
    }
