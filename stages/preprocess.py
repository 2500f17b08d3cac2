"""Archives to shards."""

from functools import partial
from pathlib import Path

from _run import PREPARED, RAW, run

from snojoe.data.fetch import check, locate
from snojoe.data.prepare import prepare
from snojoe.params import Params


def preprocess(params: Params) -> None:
    data = params.data
    check(data, RAW)
    prepare(data, partial(locate, folder=Path(data.folder), raw=RAW), PREPARED)


if __name__ == "__main__":
    run(preprocess)
