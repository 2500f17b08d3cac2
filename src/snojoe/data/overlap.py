"""Which classes of an OOD set does the in-distribution set know? Every image of such is no outlier.

The classes of an OOD set are among the folders and archives that its images lie in. One is known if
its name, or that of its WordNet id, ends with a class's name or with what means the same: a police
dog is a dog, a dog sled is none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from snojoe.data.prepared import REPORT
from snojoe.support.errors import SnojoeError

WORDNET_ID = re.compile(r"n\d{8}")

# Names that published sets have for one class.
SAME = (
    ("aeroplane", "airplane", "plane", "airliner"),
    ("bicycle", "bike", "pushbike"),
    ("boat", "ship"),
    ("bus", "coach"),
    ("car", "automobile"),
    ("cow", "cattle", "ox"),
    ("dining table", "diningtable"),
    ("motorbike", "motorcycle", "motor bike"),
    ("person", "people", "human", "man", "woman", "child"),
    ("potted plant", "pottedplant"),
    ("sofa", "couch"),
    ("tv", "tvmonitor", "television", "monitor"),
)

# The paper's 20, whose WordNet ids need no library.
_PAPERS = {
    "n02069412": "dolphin",
    "n02431122": "deer",
    "n02139199": "bat",
    "n02392434": "rhinoceros",
    "n02508213": "raccoon",
    "n01970164": "octopus",
    "n01959492": "giant clam",
    "n01937909": "leech",
    "n12782915": "Venus's flytrap",
    "n12641413": "cherry tree",
    "n12649317": "Japanese cherry",
    "n12285512": "redwood",
    "n11978713": "sunflower",
    "n07691650": "croissant",
    "n07814390": "stick cinnamon",
    "n12176953": "cotton",
    "n12126084": "rice",
    "n12132956": "sugar cane",
    "n12147226": "bamboo",
    "n12356395": "turmeric",
}


class Known(NamedTuple):
    """A class of an OOD set that the in-distribution set knows.

    Attributes
    ----------
    name : str
        As the OOD set has it.
    meaning : str
        The same, or what the WordNet id stands for.
    known_as : str
        The in-distribution class.
    images : int
    """

    name: str
    meaning: str
    known_as: str
    images: int


class _OodSet(BaseModel):
    known: list[Known] = []


class _Report(BaseModel):
    ood: dict[str, _OodSet]


def known_classes(
    paths: Iterable[str], classes: Sequence[str], same: Mapping[str, Sequence[str]] | None = None
) -> list[Known]:
    """The classes of an OOD set that are in-distribution, in the order of their names.

    Parameters
    ----------
    paths : iterable of str
        Of its images: each folder's name may be a class.
    classes : sequence of str
        Of the in-distribution set.
    same : mapping of str to sequence of str, optional
        In-distribution class -> further names of it, by a user.
    """
    counts = Counter(name for path in paths for name in {*PurePosixPath(path).parts[:-1]})
    names = {own: _names(own, (same or {}).get(own, ())) for own in classes}
    found = []
    for name, images in sorted(counts.items()):
        for meaning in _meanings(name):
            own = max(names, key=lambda each: _ends(meaning, names[each]))
            if _ends(meaning, names[own]):
                found.append(Known(name, meaning, own, images))
                break
    return found


def read_known(prepared: Path) -> dict[str, list[Known]]:
    """By OOD set what `prepare` found; ``report.json`` holds it.

    Raises
    ------
    SnojoeError
        If that is missing or damaged.
    """
    path = prepared / REPORT
    try:
        report = _Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None
    return {name: found.known for name, found in report.ood.items()}


def describe(known: Sequence[Known]) -> str:
    """In words: which, and how many images."""
    named = [
        f"{each.name}{f' ({each.meaning})' if each.meaning != each.name else ''} is {each.known_as}"
        for each in known
    ]
    images = sum(each.images for each in known)
    return f"{', '.join(named)}; {images:,} image{'s' * (images != 1)}"


def _names(own: str, further: Sequence[str]) -> list[list[str]]:
    words = _words(own)
    groups = [group for group in SAME if any(_words(each) == words for each in group)]
    return [words, *(_words(each) for group in (*groups, tuple(further)) for each in group)]


def _ends(meaning: str, names: Iterable[list[str]]) -> int:
    """Number of words of the longest name that it ends with."""
    words = _words(meaning)
    lengths = [
        len(name)
        for name in names
        if len(name) <= len(words) and all(map(_one_word, words[len(words) - len(name) :], name))
    ]
    return max(lengths, default=0)


def _one_word(one: str, other: str) -> bool:
    """Whether both are the same but for a plural's ending."""
    shorter, longer = sorted((one, other), key=len)
    return longer in (shorter, f"{shorter}s", f"{shorter}es")


def _meanings(name: str) -> list[str]:
    """What a folder's name says: itself, and each of the names of its WordNet id."""
    match = WORDNET_ID.match(name)
    if match is None:
        return [name]
    return [name, *_wordnet(match.group())]


def _wordnet(identifier: str) -> list[str]:
    if identifier in _PAPERS:
        return [_PAPERS[identifier]]
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ImportError:
        return []
    try:
        said = ImageNetInfo("imagenet22k").label_name_to_description(identifier)
    except KeyError:
        return []
    return [each.strip() for each in said.split(",")]


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+", spaced.lower())
