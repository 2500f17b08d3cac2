"""The two kinds of detector: over one array, and over a classifier's outputs and last layer.

Both are scikit-learn outlier detectors. A score is one class in one file of this package; it has
`name` (its key in files and on the command line), `title` (its row in tables), `consumes` and
`fitted_on`, and computes `_score`, higher = more in-distribution, after `_fit` where it learns.

Which array is read: a score of the paper reads what the protocol says, every other one what its
authors do, and where they say "penultimate layer" or "pre-logit features", that is h, the input of
the last linear layer (`hidden`). The pooled trunk features z (`features`) are the same array only
where that layer is the whole head. What reads the other array is a row of its own, in the same
file, with the array in its name: `mahalanobis_hidden`, `mahalanobis_pp_features`.

A score with hyperparameters has a `grid`. Its variants, one for each point of that, are fitted and
scored together by `_fit_each` and `_score_each`: one after the other, unless a class overrides
these because its variants share work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils import check_array, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.conformal import p_values
from snojoe.measures.metrics import FloatArray
from snojoe.measures.thresholds import acceptance_threshold, calibrated_threshold

_FLOATS = (np.float64, np.float32)  # of other types a copy is made
_BLOCK = 2**19  # numbers: 4 MB in float64, which a processor's cache holds


class Detector(OutlierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn is untyped
    """What every detector has.

    Without `calibrate` the threshold follows from the images seen in `fit`, as scikit-learn's do:
    what was fitted to them may accept much less of new ones.

    Parameters
    ----------
    accept : float in (0, 1], default 0.95
        Share of images that `predict` accepts: of new ones after `calibrate`, else of those seen in
        `fit`.

    Attributes
    ----------
    offset_ : float
        Eq. 11's tau: `calibrated_threshold` of `calibration_`; without it `acceptance_threshold` of
        the scores of the images seen in `fit`, computed when it is first asked for: the arrays
        given to `fit` must not change before.
    calibration_ : (n,) float64 array
        Scores of the images given to `calibrate`, in their order; only after it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    consumes: ClassVar[tuple[str, ...]] = ("logits",)
    """The fields of `ModelOutputs` that it reads: of an `ArrayDetector` one."""
    fitted_on: ClassVar[str] = "val"
    """The split that `fit` sees: "train" or "val"."""
    matched_on: ClassVar[str | None] = None
    """What `fit` may see besides: "val", of an `OutputsDetector` with a `_match`, or None."""
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Parameter -> the values that pseudo-OOD images choose from, its default among them."""

    calibration_: FloatArray

    _keeps_training: ClassVar[bool] = False
    _offset: _Offset

    def __init__(self, accept: float = 0.95) -> None:
        self.accept = accept

    @property
    def offset_(self) -> float:
        # Comparing scores never asks, and every train image against every other is slower than fit.
        check_is_fitted(self)
        return self._offset.of(self)

    def __getstate__(self) -> dict[str, Any]:
        if "_offset" in vars(self):
            self._offset.of(self)  # a pickle holds the number and not the images
        return super().__getstate__()

    @abstractmethod
    def score_samples(self, X: Any) -> FloatArray:
        """Score images: (n,) float64, higher = more in-distribution."""

    def decision_function(self, X: Any) -> FloatArray:
        """`score_samples` minus `offset_`: (n,) float64, negative = out-of-distribution."""
        scores = self.score_samples(X)
        return scores - self.offset_

    def predict(self, X: Any) -> NDArray[np.int_]:
        """Decide: (n,) int, 1 = in-distribution, -1 = out-of-distribution (eq. 11)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def calibrate(self, X: Any, confidence: float | None = None) -> Self:
        """Let the threshold follow from images on which nothing was fitted, tuned or chosen.

        Parameters
        ----------
        X
            In-distribution images, as in `score_samples`.
        confidence : float in (0, 1), optional
            As in `snojoe.measures.conformal.conformal_rank`. Of so few images that they cannot
            promise `accept` the lowest score is the threshold.

        Raises
        ------
        ValueError
            As `score_samples`, and if `confidence` is out of its range.
        """
        return self.calibrate_scores(self.score_samples(X), confidence)

    def p_values(self, X: Any) -> FloatArray:
        """Conformal p-values of being in-distribution: (n,) float64.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `calibrate`.
        """
        check_is_fitted(self, "calibration_", msg="%(name)s has no p-values before calibrate")
        return p_values(self.calibration_, self.score_samples(X))

    def fit_outputs(
        self, outputs: ModelOutputs, head: LinearHead, val: ModelOutputs | None = None
    ) -> Self:
        """Fit on the outputs of the split `fitted_on`, whatever the kind of detector.

        `val` is for what has `matched_on`, as in `OutputsDetector.fit`; all others leave it.
        """
        self.fit_variants([self], outputs, head, val)
        return self

    def score_outputs(self, outputs: ModelOutputs) -> FloatArray:
        """`score_samples` of what the detector reads of `outputs`, whatever its kind."""
        (scores,) = self.score_variants([self], outputs)
        return scores

    def variants(self) -> list[Self]:
        """Detectors that are not fitted: this one, and one for each other point of the `grid`."""
        params = self.get_params()
        own = {name: params[name] for name in self.grid}
        others = [point for point in ParameterGrid(self.grid) if point != own]
        return [clone(self).set_params(**point) for point in [own, *others]]

    @classmethod
    @abstractmethod
    def fit_variants(
        cls,
        variants: Sequence[Self],
        outputs: ModelOutputs,
        head: LinearHead,
        val: ModelOutputs | None = None,
    ) -> None:
        """`fit_outputs` of several that differ in parameters of the `grid` alone."""

    @classmethod
    @abstractmethod
    def score_variants(cls, variants: Sequence[Self], outputs: ModelOutputs) -> list[FloatArray]:
        """`score_outputs` of several that `fit_variants` has fitted together."""

    def calibrate_outputs(self, outputs: ModelOutputs, confidence: float | None = None) -> Self:
        """`calibrate` with what the detector reads of `outputs`, whatever its kind."""
        return self.calibrate_scores(self.score_outputs(outputs), confidence)

    def calibrate_scores(self, scores: FloatArray, confidence: float | None = None) -> Self:
        """`calibrate` with the images' (n,) scores."""
        self._offset = fitted_offset(calibrated_threshold(scores, self.accept, confidence))
        self.calibration_ = scores
        return self

    def _fitted(self, seen: Any) -> Self:
        if hasattr(self, "calibration_"):  # of an earlier fit
            del self.calibration_
        self._offset = _Offset(self.accept, None if self._keeps_training else seen)
        return self

    @property
    def learns_from_val(self) -> bool:
        """Whether a fitted one has learnt from the val images: LOF and Isolation Forest have."""
        fitted = {name: value for name, value in self.learnt().items() if name != "calibration_"}
        return self.fitted_on == "val" and any(isinstance(v, np.ndarray) for v in fitted.values())

    def learnt(self) -> dict[str, Any]:
        """The fitted attributes by name: arrays, numbers and objects of ours.

        What is not in it, a scikit-learn estimator, `_rebuild` makes anew.
        """
        check_is_fitted(self)
        return {
            name: value
            for name, value in vars(self).items()
            if name.endswith("_") and not isinstance(value, BaseEstimator)
        }

    @classmethod
    def _score_blocks(cls, variants: Sequence[Self], blocks: Iterable[Any]) -> list[FloatArray]:
        """The scores of each variant, of images that come in blocks."""
        by_block = [cls._score_each(variants, block) for block in blocks]
        return [np.concatenate(of_one) for of_one in zip(*by_block, strict=True)]

    @classmethod
    def _score_each(cls, variants: Sequence[Self], seen: Any) -> list[FloatArray]:
        return [each._score(seen) for each in variants]

    @abstractmethod
    def _score(self, seen: Any) -> FloatArray:
        """(n,) scores of what the class reads, in float64."""

    def restore(self, learnt: dict[str, Any], offset: _Offset) -> None:
        """Become fitted, with what `learnt` gave and an offset that is known."""
        for name, value in learnt.items():
            setattr(self, name, value)
        self._offset = offset
        self._rebuild()

    def _rebuild(self) -> None:
        """Make the fitted attributes that `learnt` leaves out; nothing by default.

        A detector that has such and does not override this is in all tables, but cannot be stored.
        """

    def _training_scores(self, seen: Any) -> FloatArray:
        """(n,) scores of the images that `fit` saw, which are given once more.

        Where an image would be its own neighbour they are others, from what `_fit` has kept:
        `_keeps_training` is then true, and `seen` None.
        """
        return self.score_samples(seen)


class _Offset:
    """The `offset_` of a fitted detector: until it is asked for, what it takes to compute it.

    That is what `fit` was given, never a copy of it, and let go afterwards. Nor is it a method of
    the detector, which would hold both in a cycle. An object of its own, since scikit-learn allows
    `predict` no change to an estimator's attributes.
    """

    def __init__(self, accept: float, seen: Any) -> None:
        if not 0 < accept <= 1:
            raise ValueError(f"accept must be in (0, 1], got {accept!r}")
        self.accept = accept
        self.seen = seen
        self.value: float | None = None

    def of(self, detector: Detector) -> float:
        if self.value is None:
            self.value = acceptance_threshold(detector._training_scores(self.seen), self.accept)
            self.seen = None
        return self.value


def fitted_offset(value: float) -> _Offset:
    """The offset of a detector whose value is known."""
    offset = _Offset(1.0, None)
    offset.value = value
    return offset


class ArrayDetector(Detector):
    """A detector over one (n, d) array: a scikit-learn estimator like any other."""

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from in-distribution images.

        Parameters
        ----------
        X : (n, d) array
            What the class attribute `consumes` names, one row per image.
        y : array, optional
            Read by detectors that learn classes, else ignored.

        Raises
        ------
        ValueError
            For NaN, infinity or an empty `X`, and parameters outside their range.
        """
        self._fit_all([self], X, y)
        return self

    def score_samples(self, X: ArrayLike) -> FloatArray:
        """Score images: (n, d) array -> (n,) float64, higher = more in-distribution."""
        (scores,) = self._score_all([self], X)
        return scores

    @classmethod
    def fit_variants(
        cls,
        variants: Sequence[Self],
        outputs: ModelOutputs,
        head: LinearHead,
        val: ModelOutputs | None = None,
    ) -> None:
        (field,) = cls.consumes
        cls._fit_all(variants, getattr(outputs, field), outputs.labels)

    @classmethod
    def score_variants(cls, variants: Sequence[Self], outputs: ModelOutputs) -> list[FloatArray]:
        (field,) = cls.consumes
        return cls._score_all(variants, getattr(outputs, field))

    @classmethod
    def _fit_all(cls, variants: Sequence[Self], X: ArrayLike, y: ArrayLike | None) -> None:
        data: FloatArray = validate_data(variants[0], X, dtype=np.float64)
        for each in variants:
            each.n_features_in_ = data.shape[1]
        cls._fit_each(variants, data, y)
        for each in variants:
            each._fitted(X)

    @classmethod
    def _score_all(cls, variants: Sequence[Self], X: ArrayLike) -> list[FloatArray]:
        for each in variants:
            check_is_fitted(each)
        data = validate_data(variants[0], X, dtype=_FLOATS, reset=False)
        blocks = (data[rows].astype(np.float64, copy=False) for rows in _blocks(*data.shape))
        return cls._score_blocks(variants, blocks)

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], X: FloatArray, y: ArrayLike | None) -> None:
        for each in variants:
            each._fit(X, y)

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        """Learn from (n, d); nothing by default."""

    @abstractmethod
    def _score(self, X: FloatArray) -> FloatArray:
        """(n, d) -> (n,)."""


class OutputsDetector(Detector):
    """A detector over several outputs, or over outputs and the weights of the last layer."""

    columns_: dict[str, int]

    def fit(self, outputs: ModelOutputs, head: LinearHead, val: ModelOutputs | None = None) -> Self:
        """Learn from in-distribution images.

        Parameters
        ----------
        outputs : ModelOutputs
            With the arrays that the class attribute `consumes` names.
        head : LinearHead
            The last layer of the classifier that made them.
        val : ModelOutputs, optional
            Images on which the classifier was not trained and nothing is calibrated. What has
            `matched_on` puts its terms onto one scale by them (`_match`), since their sizes are
            others on the images of training than on new ones; without them it takes `outputs`.

        Raises
        ------
        ValueError
            For NaN, infinity, arrays that do not fit `head`, and parameters outside their range.
        """
        return self.fit_outputs(outputs, head, val)

    def score_samples(self, outputs: ModelOutputs) -> FloatArray:
        """Score images: (n,) float64, higher = more in-distribution."""
        return self.score_outputs(outputs)

    @classmethod
    def fit_variants(
        cls,
        variants: Sequence[Self],
        outputs: ModelOutputs,
        head: LinearHead,
        val: ModelOutputs | None = None,
    ) -> None:
        if head.weight.shape != (outputs.logits.shape[1], outputs.hidden.shape[1]):
            raise ValueError(
                f"head.weight has shape {head.weight.shape}, but the outputs have "
                f"{outputs.logits.shape[1]} logits and {outputs.hidden.shape[1]} hidden features"
            )
        checked = cls._checked(outputs)
        columns = {field: getattr(checked, field).shape[1] for field in cls.consumes}
        for each in variants:
            each.columns_ = columns
        cls._fit_each(variants, checked, head)
        if cls.matched_on:
            matched = checked if val is None else cls._checked(val)
            for each in variants:
                each._match(matched)
        for each in variants:
            each._fitted(outputs)

    @classmethod
    def score_variants(cls, variants: Sequence[Self], outputs: ModelOutputs) -> list[FloatArray]:
        for each in variants:
            check_is_fitted(each)
        outputs = cls._checked(outputs, _FLOATS)
        for field, columns in variants[0].columns_.items():
            if getattr(outputs, field).shape[1] != columns:
                raise ValueError(
                    f"{field} has {getattr(outputs, field).shape[1]} columns, "
                    f"but {cls.__name__} was fitted with {columns}"
                )
        blocks = _blocks(len(outputs.logits), max(variants[0].columns_.values()))
        exact = (cls._exact(outputs.rows(rows)) for rows in blocks)
        return cls._score_blocks(variants, exact)

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], outputs: ModelOutputs, head: LinearHead) -> None:
        for each in variants:
            each._fit(outputs, head)

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        """Learn from finite float64 outputs; nothing by default."""

    def _match(self, outputs: ModelOutputs) -> None:
        """Learn one scale from finite float64 outputs, after `_fit`, where there is `matched_on`.

        A number and no more: the images stay as good as new ones to what chooses among scores.
        """

    @abstractmethod
    def _score(self, outputs: ModelOutputs) -> FloatArray:
        """Finite float64 outputs -> (n,)."""

    @classmethod
    def _checked(
        cls, outputs: ModelOutputs, dtype: type | tuple[type, ...] = np.float64
    ) -> ModelOutputs:
        arrays = {
            field: check_array(getattr(outputs, field), dtype=dtype, input_name=field)
            for field in cls.consumes
        }
        return replace(outputs, **arrays)

    @classmethod
    def _exact(cls, outputs: ModelOutputs) -> ModelOutputs:
        arrays = {
            field: getattr(outputs, field).astype(np.float64, copy=False) for field in cls.consumes
        }
        return replace(outputs, **arrays)


def _blocks(images: int, columns: int) -> Iterator[slice]:
    """Rows that a processor's cache holds in float64, one block after the other.

    An image's score needs no other image, and a copy of all of them costs more than most scores.
    """
    return gen_batches(images, max(1, _BLOCK // columns))
