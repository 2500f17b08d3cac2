"""The report in a real browser, without a network."""

import pytest
from browser import DARK, MEASURE, NEEDED, browse, looked_at
from report_files import make_experiment

from snojoe.results.report import read_page, render

pytestmark = NEEDED

LOOK = MEASURE.replace(
    "return {",
    """return {
  first: page.document.querySelector(".verdict").getBoundingClientRect().bottom,
  bars: [...page.document.querySelectorAll(".bar")].map(b => b.getBoundingClientRect().width),""",
)


@pytest.fixture(scope="module", params=[9, 0], ids=["SN", "one network"])
def html(tmp_path_factory, request):
    made = make_experiment(tmp_path_factory.mktemp("experiment"), request.param)
    return render(read_page(made.params, made.folders))


def test_it_loads_without_a_word_on_the_console(html, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    dom, said = browse(path, tmp_path / "profile")
    assert "How to read it" in dom
    assert said == []


def test_a_fault_would_be_noticed(html, tmp_path):
    path = tmp_path / "report.html"
    broken = '<img src="https://example.org/a.png" alt=""></body>'
    path.write_text(html.replace("</body>", broken), encoding="utf-8")
    _, said = browse(path, tmp_path / "profile")
    assert any("example.org" in line for line in said)


@pytest.mark.parametrize(("width", "scheme"), [(390, []), (360, [DARK]), (1200, [DARK])])
def test_images_are_there_and_everything_can_be_read(html, tmp_path, width, scheme):
    page = looked_at(html, tmp_path, width, LOOK, *scheme)
    assert page["width"] == width
    assert page["needed"] <= width
    assert (page["broken"], page["loaded"]) == (0, 0)
    assert page["images"] > 4 + 2 * 6
    assert page["first"] < (850 if width < 500 else 500)  # the detector's block, without scrolling
    assert page["bars"] == [page["bars"][0]] * 3
    assert page["contrast"] >= 4.5
    assert page["dark"] == bool(scheme)
