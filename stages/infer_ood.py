"""Logits, features and hidden layer of every OOD set, for every seed of a depth."""

from _infer import LIBRARIES, load_models, tuned_noises, write_sets
from _run import FOLDERS, run

from snojoe.params import Params
from snojoe.support.files import atomic_folder


def infer(params: Params, sn_layers: int) -> None:
    models = load_models(params, sn_layers)
    sets = {name: FOLDERS.prepared / "ood" / name for name in params.data.ood}
    outputs = FOLDERS.outputs / f"sn{sn_layers}"
    noises = tuned_noises(params, outputs / "id")
    with atomic_folder(outputs / "ood") as folder:
        write_sets(params, models, folder, sets, noises)


if __name__ == "__main__":
    run(infer, "sn-layers", libraries=LIBRARIES)
