"""The report: one HTML page that holds everything it shows and needs nothing else."""

from snojoe.results.report.page import Report, read_report, render

__all__ = ["Report", "read_report", "render"]
