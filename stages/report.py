"""One page to look at, from what score and ablate wrote."""

from pathlib import Path

from _run import FOLDERS, run

from snojoe.params import Params
from snojoe.support.files import write_text

REPORT = Path("report.html")


def report(params: Params) -> None:
    from snojoe.results.grids import Experiment
    from snojoe.results.report import read_report, render

    experiment = Experiment(FOLDERS.models, FOLDERS.outputs, list(params.data.ood), params.seeds)
    page = render(read_report(params, experiment, FOLDERS.metrics, FOLDERS.plots, FOLDERS.prepared))
    write_text(REPORT, page)
    print(f"{REPORT}: open it in a browser")


if __name__ == "__main__":
    run(report, libraries=["numpy", "scipy.linalg"])
