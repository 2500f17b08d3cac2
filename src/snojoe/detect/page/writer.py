"""One card for each image as it comes, and a page around them once the last is there."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from PIL import Image

from snojoe.data.images import ImageError
from snojoe.detect.formats import OOD, UNREADABLE, Results, largest_shares, outcome, printable
from snojoe.model.decision import JOINT_ENERGY, Decision, Detection
from snojoe.support.errors import SnojoeError
from snojoe.support.files import atomic_file

try:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ModuleNotFoundError:
    raise SnojoeError("--html takes jinja2: pip install jinja2") from None

if TYPE_CHECKING:
    from snojoe.detect.image_detector import AnyImage, ImageDetector

EDGE = 160
MOST_BYTES = 8_000
"""Of a thumbnail: 10,000 of them have to open in a browser."""

_STEPS = ((EDGE, 75), (EDGE, 50), (EDGE, 25), (EDGE // 2, 25))
_PIXELATED = 64
"""Up to here an image is shown pixel by pixel, as the network sees it."""
_NAMES_LEFT_OUT = 20


class PageWriter:
    """Made by `page_writer`.

    Its cards wait in a file, so that memory does not grow with their number; thumbnails of images
    that are decided together wait in memory, as their detections do.
    """

    def __init__(
        self, decision: Decision, said: Sequence[str], left_out: Mapping[str, Sequence[str]],
        together: bool, cards: TextIO,
    ) -> None:  # fmt: skip
        self._environment = Environment(
            loader=ChoiceLoader(
                [PackageLoader("snojoe.detect", "page"), PackageLoader("snojoe.results", "report")]
            ),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["thousands"] = "{:,}".format
        self._environment.globals["printable"] = printable
        self._card = self._environment.get_template("card.html.jinja")
        self._decision = decision
        self._numbers = {label: number for number, label in enumerate(decision.classes)}
        self._said = said
        self._left_out = left_out
        self._together = together
        self._cards = cards
        self._thumbnails: deque[Thumbnail | None] = deque()
        self._outcomes: Counter[str] = Counter()
        self._labels: Counter[int] = Counter()
        self._unlabelled = 0

    def seen_by(self, detector: ImageDetector, images: Iterable[AnyImage]) -> Results:
        """What the detector says of each image; its thumbnail is kept for `add`."""
        for image, result, small in detector.stream_with(images, thumbnail):
            self._thumbnails.append(small)
            yield str(image), result

    def add(self, name: str, result: Detection | ImageError) -> None:
        """A card for the next image of those that `seen_by` gave."""
        self._outcomes[outcome(result)] += 1
        small = self._thumbnails.popleft()
        if isinstance(result, ImageError):
            self._cards.write(self._card.render(name=printable(name), error=str(result)))
            return
        numbers = [self._numbers[label] for label in result.labels]
        self._labels.update(numbers)
        self._unlabelled += not numbers
        n = len(self._decision.calibration)
        card = self._card.render(
            name=printable(name),
            error=None,
            thumbnail=small,
            result=result,
            numbers=numbers,
            shares=largest_shares(result),
            below=round(result.p_value * (n + 1)) - 1,
            n=n,
            decision=self._decision,
            by_energy=self._decision.score == JOINT_ENERGY,
            together=self._together,
        )
        self._cards.write(card)

    def write(self, path: Path) -> None:
        """The page, whole or not at all."""
        self._cards.seek(0)
        script = files(__package__).joinpath("page.js").read_text(encoding="utf-8")
        labels = [
            (number, self._decision.classes[number], count)
            for number, count in self._labels.items()
        ]
        page = self._environment.get_template("page.html.jinja").generate(
            said=self._said,
            outcomes=self._outcomes,
            flagged=self._outcomes[OOD],
            unreadable=self._outcomes[UNREADABLE],
            images=self._outcomes.total(),
            labels=sorted(labels, key=lambda label: label[1]),
            unlabelled=self._unlabelled,
            left_out=sorted(self._left_out.items()),
            names_left_out=_NAMES_LEFT_OUT,
            cards=map(Markup, self._cards),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
        with (
            atomic_file(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.writelines(page)


@contextlib.contextmanager
def page_writer(
    path: Path,
    decision: Decision,
    said: Sequence[str],
    left_out: Mapping[str, Sequence[str]],
    *,
    together: bool = False,
) -> Iterator[PageWriter]:
    """Yield what takes the images, and write the page when the block succeeds.

    Parameters
    ----------
    path : Path
        The HTML file. It loads nothing, and runs one script, which sorts and filters.
    decision : Decision
    said : sequence of str
        What stands at its top: what decides, what that is known to do, what it promises.
    left_out : mapping
        Kind -> names, as `snojoe.detect.image_files` fills it; read at the end.
    together : bool
        Whether all images were decided about together, not each by tau.

    Raises
    ------
    SnojoeError
        If there is a folder of that name, or it cannot be written.
    """
    if path.is_dir():
        raise SnojoeError(f"{path}: expected a file to write the page to; it is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the page, where there is room for it; it has no name, so a killed process leaves none.
    with tempfile.TemporaryFile(
        "w+", encoding="utf-8", errors="backslashreplace", dir=path.parent
    ) as cards:
        writer = PageWriter(decision, said, left_out, together, cards)
        yield writer
        writer.write(path)


class Thumbnail(NamedTuple):
    """A JPEG as a ``data:`` URI, its size, and whether its pixels are to be seen as such."""

    src: str
    width: int
    height: int
    pixelated: bool


def thumbnail(image: Image.Image) -> Thumbnail:
    """RGB image, which stays as it is -> at most `EDGE` pixels wide and high and `MOST_BYTES` long.

    What takes more bytes (noise) is shown coarser.
    """
    for edge, quality in _STEPS:
        scale = min(1, edge / max(image.size))
        width, height = (max(1, round(scale * side)) for side in image.size)
        small = image if scale == 1 else image.resize((width, height), reducing_gap=2.0)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    src = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(src, width, height, max(image.size) <= _PIXELATED)
