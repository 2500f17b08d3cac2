"""One page to look at, from what score and ablate wrote."""

from _run import FOLDERS, run

from snojoe.params import Params
from snojoe.support.files import write_text


def report(params: Params) -> None:
    from snojoe.results.report import read_page, render

    write_text(FOLDERS.page, render(read_page(params, FOLDERS)))
    print(f"{FOLDERS.page}: open it in a browser")


if __name__ == "__main__":
    run(report, libraries=["numpy", "scipy.linalg"])
