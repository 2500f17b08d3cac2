"""A real browser without a network: pages as it shows them, and what it says of them."""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FOUND = next(filter(None, map(shutil.which, BROWSERS)), None)
NEEDED = [
    pytest.mark.browser,
    pytest.mark.skipif(not FOUND, reason=f"no browser: none of {', '.join(BROWSERS)}"),
]
DARK = "--blink-settings=preferredColorScheme=0"

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"),
    "--virtual-time-budget=10000",  # what waits is waited for, and takes no time
)
# What a script outside of a page finds in it: `page` is the page's window.
MEASURE = """
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
const images = [...page.document.images];
const words = [...page.document.querySelectorAll("body *")].filter(
  e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== "SCRIPT");
const loaded = page.performance.getEntriesByType("resource");
return {
  width: page.innerWidth,
  needed: page.document.documentElement.scrollWidth,
  images: images.length,
  broken: images.filter(i => !i.naturalWidth).length,
  contrast: Math.min(...words.map(contrast)),
  dark: page.matchMedia("(prefers-color-scheme: dark)").matches,
  loaded: loaded.filter(r => !r.name.startsWith("data:")).length,
};
"""
# A window is never narrower than 500 pixels; a frame can be. The page keeps its own policy: what
# looks at it stands outside.
_FRAME = """<!DOCTYPE html>
<iframe width="{width}" height="800" style="border: 0"{sandbox} srcdoc="{page}"></iframe>
<pre></pre>
<script>
async function look(page) {{ {script} }}
addEventListener("load", async () => {{
  const found = await look(document.querySelector("iframe").contentWindow);
  document.querySelector("pre").append(JSON.stringify(found));
}});
</script>
"""


def browse(page, profile, *flags):
    """The page after loading, and what was said on the browser's console."""
    done = subprocess.run(
        [FOUND, *_FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def looked_at(html, folder, width, script, *flags, scripted=True):
    """What the body of a JavaScript function of `page`, its window, returns of it.

    `scripted` is whether the page's own scripts run.
    """
    path = folder / "frame.html"
    sandbox = "" if scripted else ' sandbox="allow-same-origin"'
    frame = _FRAME.format(width=width, sandbox=sandbox, page=escape(html), script=script)
    path.write_text(frame, encoding="utf-8")
    dom, said = browse(path, folder / "profile", "--window-size=1400,900", *flags)
    assert scripted or len(said) == 1  # that it did not run its script
    assert not (scripted and said)
    return json.loads(unescape(re.search("<pre>(.+?)</pre>", dom)[1]))
