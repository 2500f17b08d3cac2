"""Make, check or download every archive and the initial weights."""

from pathlib import Path

from _run import CHECKPOINTS, FOLDERS, run

from snojoe.params import Params


def download(params: Params) -> None:
    from snojoe.data.fetch import fetch
    from snojoe.data.weights import check_network, fetch_weights, preprocessing_hint
    from snojoe.model.weights import weights_file

    model = params.model
    print(fetch_weights(model.arch, model.weights, Path(params.data.folder), FOLDERS.weights))
    check_network(params, weights_file(FOLDERS.weights))
    if hint := preprocessing_hint(params):
        print(hint)
    for line in fetch(params.data, FOLDERS.raw, CHECKPOINTS / "downloads"):
        print(line)


if __name__ == "__main__":
    run(download, libraries=["numpy"])
