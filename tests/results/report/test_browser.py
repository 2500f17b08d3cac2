"""The report in a real browser, without a network."""

import pytest
from browser import DARK, MEASURE, NEEDED, browse, looked_at
from report_files import make_experiment

from snojoe.results.report import read_page, render

pytestmark = NEEDED


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    made = make_experiment(tmp_path_factory.mktemp("experiment"))
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


@pytest.mark.parametrize(("width", "scheme"), [(360, []), (1200, [DARK])])
def test_images_are_there_and_everything_can_be_read(html, tmp_path, width, scheme):
    page = looked_at(html, tmp_path, width, MEASURE, *scheme)
    assert page["width"] == width
    assert page["needed"] <= width
    assert (page["broken"], page["loaded"]) == (0, 0)
    assert page["images"] > 7 + 2 * 6
    assert page["contrast"] >= 4.5
    assert page["dark"] == bool(scheme)
