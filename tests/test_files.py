import json

import pandas as pd
import pytest

from snojoe.files import atomic_file, atomic_folder, sha256, write_csv, write_json


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


def test_csv_is_what_pandas_writes(tmp_path):
    rows = [
        {"epoch": 1, "loss": 0.1 + 0.2, "normalized": True, "weight": 'a,"b'},
        {"epoch": 2, "loss": 1e-17, "normalized": False, "weight": "c"},
    ]
    write_csv(tmp_path / "mine.csv", rows)
    pd.DataFrame(rows).to_csv(tmp_path / "pandas.csv", index=False)
    assert (tmp_path / "mine.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()
