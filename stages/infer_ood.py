"""Logits, features and hidden layer of every OOD set, for every seed of a depth."""

from _infer import load_models, write_clean, write_noisy
from _run import OUTPUTS, PREPARED, run

from snojoe.files import atomic_folder
from snojoe.params import Params


def infer(params: Params, sn_layers: int) -> None:
    models = load_models(params, sn_layers)
    sets = {name: PREPARED / "ood" / name for name in params.data.ood}
    outputs = OUTPUTS / f"sn{sn_layers}"
    with atomic_folder(outputs / "ood") as folder:
        write_clean(params, models, folder, sets)
        if params.infer.tune:
            write_noisy(params, models, folder, sets, tuned=outputs / "id")


if __name__ == "__main__":
    run(infer, "sn-layers")
