"""The report in a real browser, without a network."""

import json
import re
import shutil
import subprocess
from html import escape

import pytest
from report_files import make_experiment

from snojoe.results.report import read_page, render

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FOUND = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not FOUND, reason=f"no browser: none of {', '.join(BROWSERS)}"),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"),
)
DARK = "--blink-settings=preferredColorScheme=0"
MEASURE = """
<script>
function rgba(text) {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a];
}
function luminance(color) {
  const [r, g, b] = color.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(element) {
  for (; element; element = element.parentElement) {
    const color = rgba(getComputedStyle(element).backgroundColor);
    if (color[3] === 1) return color;
  }
  return [255, 255, 255, 1];
}
function contrast(element) {
  const pair = [rgba(getComputedStyle(element).color), behind(element)].map(luminance);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}
addEventListener("load", () => {
  const images = [...document.images];
  const words = [...document.querySelectorAll("body *")].filter(
    e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== "SCRIPT");
  const loaded = performance.getEntriesByType("resource");
  parent.postMessage({
    width: innerWidth,
    needed: document.documentElement.scrollWidth,
    images: images.length,
    broken: images.filter(i => !i.naturalWidth).length,
    contrast: Math.min(...words.map(contrast)),
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    first: document.querySelector(".verdict").getBoundingClientRect().bottom,
    bars: [...document.querySelectorAll(".bar")].map(b => b.getBoundingClientRect().width),
    loaded: loaded.filter(r => !r.name.startsWith("data:")).length,
  }, "*");
});
</script>
</body>"""
# A window is never narrower than 500 pixels; a frame can be.
FRAME = """<!DOCTYPE html>
<iframe width="{width}" height="800" style="border: 0" srcdoc="{page}"></iframe>
<pre></pre>
<script>
addEventListener("message", m => document.querySelector("pre").append(JSON.stringify(m.data)));
</script>
"""


def browse(page, profile, *flags):
    """The page after loading, and what was said on the browser's console."""
    done = subprocess.run(
        [FOUND, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module", params=[9, 0], ids=["SN", "one network"])
def html(tmp_path_factory, request):
    made = make_experiment(tmp_path_factory.mktemp("experiment"), request.param)
    return render(read_page(made.params, made.folders))


def measured(html, folder, width, *flags):
    """What a script finds in a copy of the page that lets scripts run."""
    copy = re.sub(r"<meta http-equiv[^>]+>", "", html).replace("</body>", MEASURE)
    path = folder / "frame.html"
    path.write_text(FRAME.format(width=width, page=escape(copy)), encoding="utf-8")
    dom, said = browse(path, folder / "profile", *flags)
    assert said == []
    return json.loads(re.search("<pre>(.+?)</pre>", dom)[1])


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
    page = measured(html, tmp_path, width, "--window-size=1400,900", *scheme)
    assert page["width"] == width
    assert page["needed"] <= width
    assert (page["broken"], page["loaded"]) == (0, 0)
    assert page["images"] > 4 + 2 * 6
    assert page["first"] < (850 if width < 500 else 500)  # the detector's block, without scrolling
    assert page["bars"] == [page["bars"][0]] * 3
    assert page["contrast"] >= 4.5
    assert page["dark"] == bool(scheme)
