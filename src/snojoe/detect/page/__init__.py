"""What was detected as one HTML file, for people: `snojoe detect --html`."""

from snojoe.detect.page.writer import PageWriter, page_writer

__all__ = ["PageWriter", "page_writer"]
