"""What every stage does around its work: parameters in, a clear message out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from _alone import alone

from snojoe.errors import SnojoeError
from snojoe.params import load_params

# OpenMP's threads otherwise spin while they wait for one another: on a machine whose cores are
# shared, a training step was seen to take 26 times as long. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DATA = Path("data")
RAW = DATA / "raw"
WEIGHTS = DATA / "weights"
PREPARED = DATA / "prepared"
MODELS = Path("models")
OUTPUTS = Path("outputs")
METRICS = Path("metrics")
PLOTS = Path("plots")

# Outside DVC's care: DVC deletes a stage's outputs before it runs. DVC_ROOT is the main checkout
# also in the temporary copies in which queued experiments run.
CHECKPOINTS = Path(os.environ.get("DVC_ROOT", ".")) / ".checkpoints"

# Number of this process among those that torchrun or accelerate started.
RANK = int(os.environ.get("RANK", "0"))


def run(work: Callable[..., None], *options: str, several_processes: bool = False) -> None:
    """Call ``work`` with the checked parameters and with integers.

    These come from the command line, or from the name of the stage that DVC runs.

    Of several processes (torchrun) only the first works, unless the stage can use them all.

    The parameters are checked first, so that a wrong depth is reported with what was expected. A
    user's mistake and a failing disk end in one message, SIGTERM and Ctrl-C after tidying up.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        params = load_params()
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
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or Path.cwd()}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit("stopped")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # what has ended is not stopped any more
            signal.signal(number, signal.SIG_IGN)


def _of_the_stage(count: int) -> Sequence[str | None]:
    """``train@9-0`` -> 9 and 0; None for each where DVC runs no such stage."""
    _, at, values = os.environ.get("DVC_STAGE", "").rpartition("@")
    found = values.split("-")
    return found if at and len(found) == count else [None] * count
