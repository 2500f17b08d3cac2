"""Table 2: every score against every OOD set, on the control and on the SN model."""

from _run import FOLDERS, run

from snojoe.params import Params


def score(params: Params) -> None:
    from snojoe.results.table2 import write_table2

    write_table2(params, FOLDERS)


if __name__ == "__main__":
    run(score, libraries=["numpy", "scipy.linalg"])
