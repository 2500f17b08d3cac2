"""What every stage does around its work: parameters in, a clear message out."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from _alone import alone

from snojoe.experiment import Folders
from snojoe.params import load_params
from snojoe.support.arithmetic import check_arithmetic, pin_arithmetic
from snojoe.support.errors import SnojoeError
from snojoe.support.memory import tune_memory
from snojoe_project.dag import check_depths

# OpenMP's threads otherwise spin while they wait for one another: on a machine whose cores are
# shared, a training step was seen to take 26 times as long. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FOLDERS = Folders(Path())

# Outside DVC's care: DVC deletes a stage's outputs before it runs. DVC_ROOT is the main checkout
# also in the temporary copies in which queued experiments run.
CHECKPOINTS = Path(os.environ.get("DVC_ROOT", ".")) / ".checkpoints"

# Number of this process among those that torchrun or accelerate started.
RANK = int(os.environ.get("RANK", "0"))


def run(
    work: Callable[..., None],
    *options: str,
    libraries: Iterable[str],
    several_processes: bool = False,
) -> None:
    """Call ``work`` with the checked parameters and with integers.

    These come from the command line, or from the name of the stage that DVC runs. The arithmetic of
    ``libraries`` is pinned first, which ``work`` must therefore not have loaded.

    Of several processes (torchrun) only the first works, unless the stage can use them all.

    The parameters are checked first, so that a wrong depth is reported with what was expected. A
    user's mistake and a failing disk end in one message, SIGTERM and Ctrl-C after tidying up.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    tune_memory()
    if "SNOJOE_REPRO" in os.environ:  # other stages write to the same terminal
        sys.stdout, sys.stderr = _Signed(sys.stdout), _Signed(sys.stderr)
    try:
        params = load_params()
        if (dag := Path("dvc.yaml")).exists():
            check_depths(params, dag)
        if params.arithmetic == "portable":
            pin_arithmetic()
            for reason in check_arithmetic(libraries):
                print(f"not the digits of other machines: {reason}", file=sys.stderr)
        parser = argparse.ArgumentParser()
        for option, value in zip(options, _of_the_stage(len(options)), strict=True):
            parser.add_argument(f"--{option}", type=int, required=value is None, default=value)
        values = vars(parser.parse_args())
        if RANK == 0:
            with alone("-".join(map(str, [Path(sys.argv[0]).stem, *values.values()]))):
                work(params, **values)
        elif several_processes:
            work(params, **values)
    except SnojoeError as error:
        sys.exit(f"error: {error}{_of_a_copy()}")
    except OSError as error:
        sys.exit(f"error: {error.filename or Path.cwd()}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit("stopped")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # what has ended is not stopped any more
            signal.signal(number, signal.SIG_IGN)


def _of_a_copy() -> str:
    """What may be the reason where a queued experiment fails: data that only the checkout has."""
    from snojoe_project.code import untracked

    with contextlib.suppress(SnojoeError):
        if why := untracked(load_params(), Path(), Path(os.environ.get("DVC_ROOT", "."))):
            return f"\n{why}"
    return ""


def _of_the_stage(count: int) -> Sequence[str | None]:
    """``train@9-0`` -> 9 and 0; None for each where DVC runs no such stage."""
    _, at, values = os.environ.get("DVC_STAGE", "").rpartition("@")
    found = values.split("-")
    return found if at and len(found) == count else [None] * count


class _Signed(io.TextIOBase):
    """A stream on which each line starts with the name of the stage; no terminal for bars."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.name = os.environ.get("DVC_STAGE", Path(sys.argv[0]).stem)
        self.begun = ""

    def write(self, text: str) -> int:
        *lines, self.begun = re.split(r"[\r\n]", self.begun + text)
        self.stream.write("".join(f"{self.name} | {line}\n" for line in lines if line.strip()))
        self.stream.flush()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False
