"""The page of `snojoe detect --html`."""

import base64
import io
import json
import re
import signal
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import jpeg, model_folder, write_folder
from detected import CLASSES, DECISION, NAMES, make_page, results
from PIL import Image

from snojoe.cli import main
from snojoe.detect.page import page_writer
from snojoe.detect.page.writer import EDGE, MOST_BYTES, thumbnail
from snojoe.model.decision import Decision

EMPTY = {"img", "meta", "link", "input"}


class Elements(HTMLParser):
    """Cards with their text, and every tag that is opened."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.cards, self.open, self.text = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "li" and "data-name" in dict(attributes):
            self.cards.append([dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.cards:
            self.cards[-1][1] += data
        self.text += data


def text(card):
    return " ".join(card[1].split())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Elements(make_page(tmp_path_factory.mktemp("page") / "page.html"))


def test_every_image_has_a_card_in_the_order_of_the_call(page):
    shown = [name if name.isprintable() else repr(name) for name in NAMES]
    assert [attributes["data-name"] for attributes, _ in page.cards] == shown
    classes = ["in", "in", "out", "error", "out", "in"]
    assert [attributes["class"] for attributes, _ in page.cards] == classes


def test_a_card_says_what_and_why(page):
    first, second, third, error, *_ = map(text, page.cards)
    assert first.startswith("in p 0.190 (3/20) energy 3.05 ≥ 2.00 cat 0.95 energy from cat 100%")
    assert "<b>dog</b> 1.00, cow 0.99 energy from <b>dog</b> 62% cow 38%" in second
    assert third.startswith("OUT p 0.048 (0/20) energy 0.03 < 2.00 no label")
    assert error == "no image not readable <u>empty</u> 'caf\\udce9.jpg'"


def test_the_top_says_what_the_first_lines_say_and_what_was_left_out(page):
    words = " ".join(page.text.split())
    assert "2 of 6 images out-of-distribution, 1 not readable" in words
    assert "1 model; in-distribution: energy >= 2.00 promised: <95%>" in words
    assert "left out: 25 .txt files, 1 hidden files" in words
    assert "<i>19.txt and 5 more hidden files: '.\\n'" in words


def test_labels_to_choose_from_are_those_that_images_have(page):
    options = [a["value"] for tag, a in page.tags if tag == "option"]
    assert options[:5] == ["", "1", "0", "2", "none"]
    assert "cow (2)" in page.text
    assert "no label (1)" in page.text


def test_nothing_of_a_name_or_label_becomes_an_element(page):
    known = {"html", "head", "meta", "title", "link", "style", "body", "header", "h1", "p", "main"}
    known |= {"details", "summary", "ul", "li", "dl", "dt", "dd", "div", "span", "strong"}
    known |= {"form", "fieldset", "legend", "label", "input", "select", "option", "output"}
    known |= {"img", "noscript", "footer", "code", "script"}
    assert {tag for tag, _ in page.tags} == known
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]
    assert page.open == []


def test_it_names_no_address(page):
    values = [v or "" for _, attributes in page.tags for v in attributes.values()]
    assert not [value for value in values if "//" in value and not value.startswith("data:")]


def test_another_score_decides_by_its_name(tmp_path):
    other = Decision(CLASSES, -1.5, np.full(3, 0.5), np.arange(-9.0, 0), score="knn")
    found = results(other, scores=np.array([[-1.0, -2.0, -1.5, -3.0, -1.25]]))
    first, second, *_ = map(text, Elements(make_page(tmp_path / "p.html", other, found)).cards)
    assert first.startswith("in p 1.000 (9/9) knn -1 ≥ -1.5 energy 3.05")
    assert second.startswith("OUT p 0.900 (8/9) knn -2 < -1.5")


def test_of_several_models_the_spread_is_there(tmp_path):
    found = DECISION(np.array([[[2.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]]]))
    (card,) = Elements(make_page(tmp_path / "p.html", found=found, names=["a.jpg"])).cards
    assert text(card).startswith("in p 0.238 (4/20) energy 3.73 ± 0.58 ≥ 2.00")


def test_images_that_are_decided_together_are_not_compared_with_tau(tmp_path):
    cards = Elements(make_page(tmp_path / "p.html", fdr=0.3)).cards
    assert [attributes["class"] for attributes, _ in cards].count("out") == 1  # by tau, two
    assert text(cards[0]).startswith("in p 0.190 (3/20) energy 3.05 cat")


def test_nothing_is_a_page_too(tmp_path):
    html = make_page(tmp_path / "p.html", found=[], names=[], left_out={})
    assert "0 of 0 images out-of-distribution" in html
    assert "left out" not in html


@pytest.mark.parametrize("size", [(3000, 2000), (2000, 3000), (30_000, 10), (161, 5), (1, 1)])
def test_a_thumbnail_has_the_image_s_aspect_and_fits(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    small = thumbnail(image)
    assert image.size == size
    kind, content = small.src.split(",")
    assert kind == "data:image/jpeg;base64"
    content = base64.b64decode(content)
    assert len(content) <= MOST_BYTES
    with Image.open(io.BytesIO(content)) as read:
        assert read.size == (small.width, small.height)
    assert max(read.size) == min(max(size), EDGE) or max(read.size) == EDGE // 2
    assert min(read.size) == max(1, round(min(size) * max(read.size) / max(size)))


def folder(path):
    """An image lying on its side, a transparent one, one that is none."""
    turned = Image.new("RGB", (40, 20), "red")
    exif = turned.getexif()
    exif[274] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    clear = io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(clear, "PNG")
    files = {"a.jpg": buffer.getvalue(), "b.png": clear.getvalue(), "c.jpg": b"", "d.txt": b""}
    return write_folder(path, {**files, "e.jpg": jpeg()})


def test_detect_writes_it_beside_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")
    folder(tmp_path / "images")
    command = ["detect", "images", "--model", "model", "--format", "jsonl"]
    assert main(command) == 2
    printed = capsys.readouterr().out
    assert main([*command, "--html", "new/page.html"]) == 2
    captured = capsys.readouterr()
    found = [json.loads(line) for line in captured.out.splitlines()]
    assert len(captured.out) == len(printed)
    said = captured.err.splitlines()
    assert re.fullmatch(r"new/page\.html: \d.* kB, open it in a browser", said[-1])
    page = Elements((tmp_path / "new/page.html").read_text(encoding="utf-8"))
    for line in said[:2]:
        assert line in page.text
    for record, (attributes, words) in zip(found, page.cards, strict=True):
        assert attributes["data-name"] == record["image"]
        assert record["error"] is None or record["error"] in words
        if record["error"] is None:
            assert float(attributes["data-p"]) == pytest.approx(record["p_value"], abs=1e-6)
    shown = [a for tag, a in page.tags if tag == "img"]
    assert [(a["width"], a["height"]) for a in shown] == [("20", "40"), ("20", "20"), ("40", "30")]
    white = base64.b64decode(shown[1]["src"].split(",")[1])
    assert Image.open(io.BytesIO(white)).getpixel((5, 5)) == (255, 255, 255)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


@pytest.mark.parametrize("more", [["--fdr", "0.2"], ["--model", "other"], ["--format", "csv"]])
def test_it_goes_with_every_other_option(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("model", "other")):
        model_folder(tmp_path / name, seed)
    folder(tmp_path / "images")
    assert main(["detect", "images", "--model", "model", "--html", "p.html", *more]) == 2
    page = Elements((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert len(page.cards) == 4


def test_a_folder_in_its_place_is_refused_before_anything_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")
    folder(tmp_path / "images")
    assert main(["detect", "images", "--model", "model", "--html", "images"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: images: expected a file to write the page to; it is a folder" in captured.err


def test_one_that_is_killed_leaves_no_page_and_no_trace(tmp_path):
    model_folder(tmp_path / "model")
    write_folder(tmp_path / "images", {f"{i}.jpg": jpeg(i) for i in range(40)})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/page.html").write_text("the last one")
    command = "from snojoe.cli import main; raise SystemExit(main())"
    arguments = ["detect", "-", "--model", "model", "--format", "csv", "--html", "out/page.html"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    process.stdin.write(b"images\n" * 3)
    process.stdin.flush()
    assert process.stdout.readline()  # csv's first buffer is full: cards are written
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["page.html"]
    assert (tmp_path / "out/page.html").read_text() == "the last one"


def test_memory_does_not_grow_with_the_images(tmp_path):
    (_, found) = results()[:2]
    small = thumbnail(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8))
    )

    class Same:
        def __init__(self, count):
            self.count = count

        def stream_with(self, images, view):
            for i in range(self.count):
                yield f"{i}.jpg", found, small

    def peak(count):
        tracemalloc.start()
        with page_writer(tmp_path / "p.html", DECISION, [], {}) as page:
            for name, result in page.seen_by(Same(count), []):
                page.add(name, result)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(50), peak(1500)
    assert (tmp_path / "p.html").stat().st_size > 1500 * len(small.src) > 5e6
    assert many < few + 5e5
