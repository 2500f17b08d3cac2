"""Table 3: JointEnergy with spectral normalisation on the first #layers."""

from _run import FOLDERS, run

from snojoe.params import Params


def ablate(params: Params) -> None:
    from snojoe.results.table3 import write_table3

    write_table3(params, FOLDERS)


if __name__ == "__main__":
    run(ablate, libraries=["numpy", "scipy.linalg"])
