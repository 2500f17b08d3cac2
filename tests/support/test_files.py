import errno
import json
import subprocess
import sys

import pandas as pd
import pytest

from snojoe.support.errors import SnojoeError
from snojoe.support.files import (
    SUMS,
    atomic_file,
    atomic_folder,
    check_sums,
    read_sums,
    scratch_folder,
    sha256,
    write_csv,
    write_json,
    write_sums,
)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"

    def fail_halfway():
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(path.parent.iterdir()) == []
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("")

    def fail_halfway():
        with atomic_folder(path) as temporary:
            (temporary / "new").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "old"]
    with atomic_folder(path) as temporary:
        (temporary / "new").write_text("")
    assert [p.name for p in path.iterdir()] == ["new"]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "a") == expected


def test_sums_are_those_of_sha256sum_and_name_what_differs(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"")
    write_sums(tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path, check=True)
    check_sums(tmp_path)
    assert list(read_sums(tmp_path)) == ["a", "b"]
    (tmp_path / "a").write_bytes(b"abd")
    (tmp_path / "b").unlink()
    with pytest.raises(SnojoeError, match=r"(?s)/a: damaged.*\n.*/b: is missing"):
        check_sums(tmp_path)
    (tmp_path / SUMS).write_text("nothing of the kind\n")
    with pytest.raises(SnojoeError, match="not a list of checksums"):
        check_sums(tmp_path)


def test_what_a_dead_process_left_is_removed_and_a_living_ones_is_kept(tmp_path):
    file = (
        "import os; from pathlib import Path; from snojoe.support.files import atomic_file\n"
        f"with atomic_file(Path({str(tmp_path / 'a')!r})) as temporary: temporary.touch(); {{}}"
    )
    subprocess.run([sys.executable, "-c", file.format("os._exit(9)")], check=False)
    (dead,) = tmp_path.iterdir()
    living = subprocess.Popen(
        [sys.executable, "-c", file.format("print(flush=True); input()")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    living.stdout.readline()
    other_name, other_host = tmp_path / ".b.host.1.tmp", tmp_path / ".a.elsewhere.999999.tmp"
    other_name.touch()
    other_host.touch()
    assert not dead.exists()
    with scratch_folder(tmp_path / "a"):
        assert len(list(tmp_path.glob(".a.*"))) == 3
    assert {other_name, other_host} < set(tmp_path.iterdir())
    living.communicate(b"\n", timeout=30)
    assert (tmp_path / "a").exists()


def test_a_full_disk_is_named(tmp_path):
    with (
        pytest.raises(SnojoeError, match="a: cannot be written: No space left"),
        atomic_file(tmp_path / "a"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_csv_is_what_pandas_writes(tmp_path):
    rows = [
        {"epoch": 1, "loss": 0.1 + 0.2, "normalized": True, "weight": 'a,"b'},
        {"epoch": 2, "loss": 1e-17, "normalized": False, "weight": "c"},
    ]
    write_csv(tmp_path / "mine.csv", rows)
    pd.DataFrame(rows).to_csv(tmp_path / "pandas.csv", index=False)
    assert (tmp_path / "mine.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()
