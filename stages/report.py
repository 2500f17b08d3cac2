"""One page to look at, from what score and ablate wrote."""

from pathlib import Path

from _run import METRICS, MODELS, OUTPUTS, PLOTS, PREPARED, run

from snojoe.evaluation import Experiment
from snojoe.files import write_text
from snojoe.params import Params
from snojoe.report import read_report, render

REPORT = Path("report.html")


def report(params: Params) -> None:
    experiment = Experiment(MODELS, OUTPUTS, list(params.data.ood), params.seeds)
    page = render(read_report(params, experiment, METRICS, PLOTS, PREPARED))
    write_text(REPORT, page)
    print(f"{REPORT}: open it in a browser")


if __name__ == "__main__":
    run(report)
