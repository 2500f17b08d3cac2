"""Which preprocessing the parameters ask for."""

from __future__ import annotations

from snojoe.model.described import described_preprocessing
from snojoe.model.preprocessing import Preprocessing, Resize, preprocessing
from snojoe.params import Data


def preprocessing_of(data: Data) -> Preprocessing:
    """What ``data.preprocessing`` asks for: the protocol's, a described one, or its own.

    Raises
    ------
    SnojoeError
        If nobody describes what it names.
    """
    asked = data.preprocessing
    if asked is None:
        return preprocessing(data.image_size)
    if isinstance(asked, str):
        return described_preprocessing(asked, data.image_size)
    resize = Resize(asked.interpolation, asked.aspect_kept, asked.crop)
    return preprocessing(data.image_size, resize, asked.mean, asked.std)
