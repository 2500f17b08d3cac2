"""One classifier: a depth of spectral normalisation and a seed."""

from _run import CHECKPOINTS, FOLDERS, run

from snojoe.params import Params


def train(params: Params, sn_layers: int, seed: int) -> None:
    from snojoe.training.run import train_model

    train_model(params, sn_layers, seed, FOLDERS, CHECKPOINTS / "train")


if __name__ == "__main__":
    libraries = ["numpy", "scipy.linalg", "torch"]
    run(train, "sn-layers", "seed", libraries=libraries, several_processes=True)
