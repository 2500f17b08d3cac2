"""The page of `snojoe detect --html` in a real browser, without a network."""

import pytest
from browser import DARK, MEASURE, NEEDED, browse, looked_at
from detected import NAMES, make_page

pytestmark = NEEDED

# Sets the form's fields as a user does; then the cards that are seen, by their place in the call.
USE = """
const form = page.document.forms[0];
const cards = [...page.document.querySelectorAll("[data-name]")];
const seen = () => [...page.document.querySelectorAll("[data-name]")]
  .filter(card => card.getClientRects().length).map(card => cards.indexOf(card));
const found = {};
for (const [field, values] of Object.entries(%s)) {
  for (const value of values) {
    const before = form.elements[field].value;
    form.elements[field].value = value;
    form.dispatchEvent(new page.Event("input"));
    found[`${field} ${value}`] = seen();
    if (field !== "sort") form.elements[field].value = before;
  }
}
found.shown = form.querySelector("output").value;
return found;
"""
FIELDS = """{
  sort: ["p", "-p", "decision", "label", "name", ""],
  decision: ["out", "in", "error"], label: ["2", "none"], from: ["0.19"], to: ["0.19"],
  name: ["CAT", "script>", "nowhere"],
}"""


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("page") / "page.html")


def test_its_script_runs_under_its_policy_and_nothing_else_is_said(html, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    dom, said = browse(path, tmp_path / "profile")
    assert said == []
    assert ">6 shown</output>" in dom
    assert "<title>snojoe detect: 2 of 6 images out-of-distribution</title>" in dom


@pytest.mark.parametrize(
    "strange", ["<script>alert(1)</script>", '<img src="https://example.org/a.png" alt="">']
)
def test_no_other_script_runs_and_nothing_is_loaded(html, tmp_path, strange):
    path = tmp_path / "page.html"
    path.write_text(html.replace("</body>", f"{strange}</body>"), encoding="utf-8")
    _, said = browse(path, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in said)


@pytest.mark.parametrize("width", [360, 1200])
def test_it_sorts_and_filters(html, tmp_path, width):
    found = looked_at(html, tmp_path, width, USE % FIELDS)
    assert found == {
        "sort p": [2, 4, 0, 5, 1, 3],
        "sort -p": [1, 5, 0, 4, 2, 3],
        "sort decision": [2, 4, 3, 0, 5, 1],
        "sort label": [1, 0, 4, 5, 2, 3],
        "sort name": [3, 2, 1, 0, 5, 4],
        "sort ": [0, 1, 2, 3, 4, 5],
        "decision out": [2, 4],
        "decision in": [0, 1, 5],
        "decision error": [3],
        "label 2": [1, 5],
        "label none": [2],
        "from 0.19": [0, 1, 5],
        "to 0.19": [2, 4],
        "name CAT": [0],
        "name script>": [1],
        "name nowhere": [],
        "shown": "0 shown",
    }


# Images are loaded as they come into sight, and all to be printed.
SEEN = """
const wait = () => new Promise(done => setTimeout(done, 500));
await wait();
const seen = page.document.images.length;
page.dispatchEvent(new page.Event("beforeprint"));
await wait();
return { seen, ...await (async () => { %s })() };
"""


@pytest.mark.parametrize(("width", "scheme"), [(360, []), (1200, [DARK])])
def test_images_are_there_and_everything_can_be_read(html, tmp_path, width, scheme):
    page = looked_at(html, tmp_path, width, SEEN % MEASURE, *scheme)
    assert page["width"] == width
    assert page["needed"] <= width
    assert (page["broken"], page["loaded"]) == (0, 0)
    assert 2 <= page["seen"] <= page["images"] == len(NAMES) - 1
    assert page["contrast"] >= 4.5
    assert page["dark"] == bool(scheme)


def test_without_scripts_every_card_and_image_is_there_and_no_form(html, tmp_path):
    look = """
    const form = page.document.forms[0].getClientRects().length;
    const cards = [...page.document.querySelectorAll("[data-name]")];
    const images = [...page.document.images].filter(image => image.naturalWidth).length;
    return [form, cards.filter(card => card.getClientRects().length).length, images];
    """
    assert looked_at(html, tmp_path, 360, look, scripted=False) == [0, 6, 5]
