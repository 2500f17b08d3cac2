"""Archives to shards."""

from functools import partial
from pathlib import Path

from _run import FOLDERS, run

from snojoe.params import Params


def preprocess(params: Params) -> None:
    from snojoe.data.fetch import check_archives, locate
    from snojoe.data.prepare import prepare

    data = params.data
    check_archives(data, FOLDERS.raw)
    prepare(data, partial(locate, folder=Path(data.folder), raw=FOLDERS.raw), FOLDERS.prepared)


if __name__ == "__main__":
    run(preprocess, libraries=["numpy"])
