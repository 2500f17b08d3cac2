"""A stage is alone at its work: no second process writes what it writes, orphans stop.

Where DVC alone is killed, its stage lives on. DVC, started again, would then run the same stage
beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import psutil

from snojoe.support.errors import SnojoeError
from snojoe.support.files import is_alive

_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "fish")

# In the checkout whose outputs the stage writes: queued experiments have one each.
LOCKS = Path(".checkpoints/locks")

# An orphan looks for its parent once a second and is given five to tidy up.
_LOOK_S, _TIDY_S = 1.0, 5.0
_WAIT_S = 2 * (_LOOK_S + _TIDY_S)


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the lock of a stage; stop the process when the DVC that started it is gone.

    Raises
    ------
    SnojoeError
        If another process holds the lock and does not let go, or DVC is gone already.
    """
    if "DVC_STAGE" in os.environ:
        if not (process := _dvc_process()):
            raise SnojoeError(f"{name}: the DVC that started this is gone; nothing was done")
        starters = [process, int(os.environ.get("SNOJOE_REPRO", process))]  # see _repro.py
        threading.Thread(target=_stop_with, args=(starters,), daemon=True).start()
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{name}.lock").open("a+", encoding="utf-8") as file:
        _lock(file, name)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock(file: TextIO, name: str) -> None:
    """Wait for as long as an orphan needs to stop. The kernel releases the lock of the dead."""
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            # Unlike flock's, this lock is not inherited by the loader's workers.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                file.seek(0)
                holder = file.read() or "unknown"
                raise SnojoeError(
                    f"{name}: process {holder} is at work on the same outputs; wait for it or "
                    f"stop it"
                ) from None
            time.sleep(0.1)
        else:
            return


def _dvc_process() -> int:
    """The ancestor that is DVC, 0 if it is gone already.

    Shells that do not replace themselves stand between. Orphans are adopted by process 1 or by
    systemd. What is neither may be a program that uses DVC as a library.
    """
    try:
        for ancestor in psutil.Process().parents():
            names = [Path(word).name.lstrip("-") for word in ancestor.cmdline()]
            if "dvc" in names:
                return ancestor.pid
            if not names or ancestor.pid == 1 or names[0] == "systemd":
                return 0
            if names[0] not in _SHELLS:
                return os.getppid()
    except psutil.AccessDenied:
        return os.getppid()
    except psutil.NoSuchProcess:  # it ended meanwhile
        pass
    return 0


def _stop_with(starters: Sequence[int]) -> None:
    """Stop this process when its parent or one of the given processes is gone."""
    parent = os.getppid()
    while os.getppid() == parent and all(map(is_alive, starters)):
        time.sleep(_LOOK_S)
    main = threading.main_thread()
    signal.pthread_kill(main.ident or 0, signal.SIGTERM)  # which ends its sleep or its reading
    time.sleep(_TIDY_S)
    os._exit(1)  # the main thread is still in some long call
