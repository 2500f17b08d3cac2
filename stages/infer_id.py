"""Logits, features and hidden layer of train, val and test, for every seed of a depth."""

from _run import CHECKPOINTS, FOLDERS, run

from snojoe.params import Params


def infer(params: Params, sn_layers: int) -> None:
    from snojoe.inference.infer import infer_id

    infer_id(params, FOLDERS, sn_layers, CHECKPOINTS / "infer")


if __name__ == "__main__":
    libraries = ["numpy", "scipy.linalg", "torch"]
    run(infer, "sn-layers", libraries=libraries, several_processes=True)
