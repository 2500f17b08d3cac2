"""What every stage does around its work: alone, tidy, and clear when the machine fails."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from committed import committed
from conftest import write_folder

ROOT = Path(__file__).parents[1]
ENV = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'stages'}"}
STAGE = """
import sys, time
from pathlib import Path
from _run import run
from snojoe.support.files import atomic_file

def work(params):
    with atomic_file(Path("out")) as temporary:
        temporary.write_text(sys.argv[0])
        Path("started").touch()
        {work}

sys.argv = ["stages/{name}.py"]
run(work, libraries=())
"""

# In short sleeps: a signal that comes just before a sleep starts does not end it.
WORK = "while True: time.sleep(0.05)"


def start(folder, work="pass", name="work", **env):
    if not (folder / "params.yaml").exists():
        (folder / "params.yaml").write_text(committed("params.yaml"))
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", STAGE.format(work=work, name=name)],
        cwd=folder,
        env=ENV | env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(path, process=None):
    for _ in range(600):
        if path.exists():
            return
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def temporaries(folder):
    return [path.name for path in folder.rglob(".*.tmp")]


def test_a_stage_ends_and_leaves_nothing_but_its_output(tmp_path):
    assert start(tmp_path).wait(60) == 0
    assert (tmp_path / "out").exists()
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_stage_tidies_up(tmp_path, number):
    process = start(tmp_path, WORK)
    wait_for(tmp_path / "started", process)
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler says where it is
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1, errors
    assert errors == "stopped\n"
    assert temporaries(tmp_path) == []
    assert not (tmp_path / "out").exists()


def test_what_a_killed_stage_left_is_removed_by_the_next(tmp_path):
    process = start(tmp_path, WORK)
    wait_for(tmp_path / "started", process)
    process.kill()
    process.wait(10)
    assert len(temporaries(tmp_path)) == 1
    assert start(tmp_path).wait(60) == 0
    assert temporaries(tmp_path) == []


def test_a_second_process_is_told_of_the_first(tmp_path):
    first = start(tmp_path, WORK)
    wait_for(tmp_path / "started", first)
    other = start(tmp_path, name="other")  # another stage does not mind
    assert other.wait(60) == 0
    second = start(tmp_path, "import _alone", name="work")
    _, errors = second.communicate(timeout=90)
    first.kill()
    first.wait(10)
    assert errors == (
        f"error: work: process {first.pid} is at work on the same outputs; wait for it or stop it\n"
    )


def test_an_orphan_stops_and_the_next_run_waits_for_that(tmp_path):
    """As when DVC alone is killed: with a shell between that does not replace itself."""
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    (tmp_path / "stage.py").write_text(STAGE.format(work=WORK, name="work"))
    dvc = tmp_path / "dvc"  # a parent of that name, which starts the stage and waits
    dvc.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\n"
        f"subprocess.run(['sh', '-c', '{sys.executable} stage.py; true'])\n"
    )
    dvc.chmod(0o755)
    parent = subprocess.Popen([dvc], cwd=tmp_path, env=ENV | {"DVC_STAGE": "work"})
    wait_for(tmp_path / "started", parent)
    (tmp_path / "started").unlink()
    parent.kill()
    parent.wait(10)
    begun = time.monotonic()
    next_run = start(tmp_path)
    _, errors = next_run.communicate(timeout=60)
    assert (next_run.returncode, errors) == (0, "")
    assert time.monotonic() - begun < 30
    assert (tmp_path / "out").read_text() == "stages/work.py"
    assert temporaries(tmp_path) == []


def test_a_stage_whose_dvc_is_gone_before_it_starts_does_nothing(tmp_path):
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    (tmp_path / "stage.py").write_text(
        "import time; time.sleep(1)\n" + STAGE.format(work="pass", name="w")
    )
    subprocess.run(
        ["sh", "-c", f"({sys.executable} stage.py 2> errors; touch ended) &"],
        cwd=tmp_path,
        env=ENV | {"DVC_STAGE": "w"},
        check=True,
    )
    wait_for(tmp_path / "ended")
    assert (
        "the DVC that started this is gone; nothing was done" in (tmp_path / "errors").read_text()
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (f"raise OSError({errno.ENOSPC}, 'No space left on device')", "out: cannot be written: No"),
        (
            f"raise OSError({errno.EROFS}, 'Read-only file system', 'x')",
            "error: out: cannot be written: Read",
        ),
        (f"raise OSError({errno.EIO}, 'Input/output error')", "Input/output error"),
        (
            "from snojoe.support.errors import SnojoeError; raise SnojoeError('a: wrong')",
            "error: a: wrong",
        ),
    ],
)
def test_a_failing_disk_is_one_line(tmp_path, failure, message):
    process = start(tmp_path, failure)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert temporaries(tmp_path) == []


def test_of_several_processes_only_the_first_works(tmp_path):
    assert start(tmp_path, RANK="1").wait(60) == 0
    assert not (tmp_path / "out").exists()


def test_a_stage_of_the_matrix_reads_its_values_from_its_name(tmp_path):
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    code = (
        "from _run import run\n"
        "run(lambda params, sn_layers, seed: print(sn_layers, seed), {}, libraries=())"
    )
    command = [sys.executable, "-c", code.format('"sn-layers", "seed"')]

    def said(*options, **env):
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, env=ENV | env, text=True, capture_output=True
        )
        return done.stdout + done.stderr

    assert said(DVC_STAGE="train@8-1") == "8 1\n"
    assert said("--sn-layers", "9", "--seed", "2") == "9 2\n"
    assert "the following arguments are required: --sn-layers, --seed" in said()
    assert "invalid int value: '8;id'" in said(DVC_STAGE="train@8;id-1")


def test_a_depth_that_dvc_yaml_does_not_list_is_named(tmp_path):
    text = committed("params.yaml").replace("  - 9\n", "  - 9\n  - 5\n")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "dvc.yaml").write_text(committed("dvc.yaml"))
    process = start(tmp_path)
    _, errors = process.communicate(timeout=60)
    assert errors == (
        "error: params.yaml: ablation.sn_layers: expected as many depths as dvc.yaml has, 4; got "
        "[0, 7, 8, 9, 5]: a depth may be named twice\n"
    )
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    assert start(tmp_path).wait(60) == 0


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_lock_that_dvc_did_not_finish_is_removed(tmp_path, share):
    whole = (ROOT / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(whole[: int(share * len(whole))] + "\n        pa")
    done = mend(tmp_path)
    assert done.stdout == "dvc.lock: half-written by a DVC that was killed; removed\n"
    assert not (tmp_path / "dvc.lock").exists()


def test_whole_files_of_dvc_are_left_alone(tmp_path):
    files = {"dvc.lock": (ROOT / "dvc.lock").read_text(), ".dvc/tmp/rwlock": "{}"}
    write_folder(tmp_path, {name: text.encode() for name, text in files.items()})
    assert mend(tmp_path).stdout == ""
    assert {name: (tmp_path / name).read_text() for name in files} == files
    (tmp_path / ".dvc/tmp/rwlock").write_text("{")
    assert mend(tmp_path).stdout.startswith(".dvc/tmp/rwlock: half-written")
    assert mend(tmp_path).stdout == ""


def mend(folder):
    command = [sys.executable, "-c", "import _repro; _repro.mend()"]
    return subprocess.run(
        command, cwd=folder, env=ENV, text=True, stdout=subprocess.PIPE, check=True
    )


def test_what_a_killed_process_left_is_removed_though_nothing_is_to_be_written(tmp_path):
    mine, others = f"{socket.gethostname()}.{2**22 + 1}", f"elsewhere.{2**22 + 1}"
    for folder in ("data", "models/sn9", "."):
        (tmp_path / folder / f".made.{mine}.tmp").mkdir(parents=True)
        (tmp_path / folder / f".made.{others}.tmp").mkdir()
    mend(tmp_path)
    assert temporaries(tmp_path) == 3 * [f".made.{others}.tmp"]


def test_a_failure_in_the_copy_of_an_experiment_names_what_only_the_checkout_has(tmp_path):
    write_folder(tmp_path / "root/archives/pets", {"a.jpg": b""})
    copy = tmp_path / "copy"
    copy.mkdir()
    text = committed("params.yaml").replace("- embedded: digits", "- path: pets")
    (copy / "params.yaml").write_text(text)
    failure = "from snojoe.support.errors import SnojoeError; raise SnojoeError('a: wrong')"
    process = start(copy, failure, DVC_ROOT=str(tmp_path / "root"))
    _, errors = process.communicate(timeout=60)
    first, second = errors.splitlines()
    assert first == "error: a: wrong"
    assert second.startswith("archives/pets: lies in ")
    assert "dvc add archives/pets" in second
