"""Put metrics/headline.md between its markers in README.md: python .ci/readme.py."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
START, END = "<!-- metrics/headline.md -->\n", "<!-- end of metrics/headline.md -->\n"


def with_headline(readme: str, headline: str) -> str:
    """The README with the results of the last run."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{headline}{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    headline = (ROOT / "metrics" / "headline.md").read_text(encoding="utf-8")
    path.write_text(with_headline(path.read_text(encoding="utf-8"), headline), encoding="utf-8")
