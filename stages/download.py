"""Make, check or download every archive and the initial weights."""

from pathlib import Path

from _run import CHECKPOINTS, FOLDERS, run

from snojoe.params import Params


def download(params: Params) -> None:
    from snojoe.data.fetch import fetch
    from snojoe.data.weights import check_network, fetch_weights, preprocessing_hint
    from snojoe.model.weights import NETWORK, weights_file

    model = params.model
    folder, target = Path(params.data.folder), FOLDERS.weights
    code = model.own.network.rpartition(":")[0] if model.own else None
    print(fetch_weights(model.arch, model.weights, folder, target, code))
    check_network(params, weights_file(target), target / NETWORK)
    if hint := preprocessing_hint(params):
        print(hint)
    for line in fetch(params.data, FOLDERS.raw, CHECKPOINTS / "downloads"):
        print(line)


if __name__ == "__main__":
    run(download, libraries=["numpy"])
