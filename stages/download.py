"""Make, check or download every archive and the initial weights."""

from pathlib import Path

from _run import CHECKPOINTS, RAW, WEIGHTS, run

from snojoe.data.fetch import fetch, fetch_weights
from snojoe.params import Params


def download(params: Params) -> None:
    for line in fetch(params.data, RAW, CHECKPOINTS / "downloads"):
        print(line)
    model = params.model
    print(fetch_weights(model.arch, model.weights, Path(params.data.folder), WEIGHTS))


if __name__ == "__main__":
    run(download)
