"""What a detector says of a few images, made by hand, as a page."""

import numpy as np
from PIL import Image

from snojoe.data.images import ImageError
from snojoe.detect.page import page_writer
from snojoe.model.decision import Decision, with_false_discovery_rate

CLASSES = ["cat", "<b>dog</b>", "cow"]
DECISION = Decision(CLASSES, 2.0, np.full(3, 0.5), np.arange(0.5, 20), source="val")
LOGITS = [[3.0, -9, -9], [-9, 8.0, 5.0], [-5, -4, -6.0], [0.5, -1, -1], [-9, 4.0, 6.0]]
NAMES = [
    "b/cat.jpg",
    "a/</script><script>document.title = 'run'</script>.jpg",
    '"><img src=x onerror="document.title = 1">.jpg',
    "caf\udce9.jpg",
    "c10.jpg",
    "c9.jpg",
]
SAID = ["1 model; in-distribution: energy >= 2.00", "promised: <95%>"]
LEFT_OUT = {".txt files": [f"<i>{i}.txt" for i in range(25)], "hidden files": [".\n"]}


class Stub:
    """In the place of an `ImageDetector`: images are PIL's or errors, results are at hand."""

    def __init__(self, results):
        self.results = results

    def stream_with(self, images, view):
        for (name, image), result in zip(images, self.results, strict=True):
            yield name, result, None if isinstance(result, ImageError) else view(image)


def pictures(count):
    """The first is small and is to be seen pixel by pixel."""
    return [Image.new("RGB", (400 if i else 40, 300), (40 * i, 90, 0)) for i in range(count)]


def results(decision=DECISION, logits=LOGITS, scores=None):
    """Of the six names; the fourth cannot be read."""
    found = decision(np.array([logits]), scores)
    return [*found[:3], ImageError("<u>empty</u>"), *found[3:]]


def make_page(path, decision=DECISION, found=None, names=NAMES, left_out=LEFT_OUT, fdr=None):
    """Write a page as `snojoe detect` does; returns its text."""
    found = results(decision) if found is None else found
    with page_writer(path, decision, SAID, left_out, together=fdr is not None) as page:
        seen = list(page.seen_by(Stub(found), zip(names, pictures(len(names)), strict=True)))
        if fdr:
            known = [result for _, result in seen if not isinstance(result, ImageError)]
            decided = iter(with_false_discovery_rate(known, fdr))
            seen = [(n, r if isinstance(r, ImageError) else next(decided)) for n, r in seen]
        for name, result in seen:
            page.add(name, result)
    return path.read_text(encoding="utf-8")
