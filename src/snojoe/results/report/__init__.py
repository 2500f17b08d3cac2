"""The report: one HTML page that holds everything it shows and needs nothing else."""

from snojoe.results.report.page import Page, read_page, render

__all__ = ["Page", "read_page", "render"]
