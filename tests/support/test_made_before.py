import sys
import types

import pytest

from snojoe.support.files import write_sums
from snojoe.support.made_before import copy_made_before, fingerprint, note


def test_a_fingerprint_covers_values_and_files(tmp_path):
    path = tmp_path / "data" / "a"
    path.parent.mkdir()
    path.write_text("one")
    first = fingerprint({"lr": 1}, path.parent)
    assert fingerprint({"lr": 1}, path.parent) == first
    assert fingerprint({"lr": 2}, path.parent) != first
    path.write_text("two")
    assert fingerprint({"lr": 1}, path.parent) != first


def test_a_fingerprint_reads_the_checksums_of_a_folder_that_has_them(tmp_path):
    (tmp_path / "a").write_text("one")
    write_sums(tmp_path)
    first = fingerprint(tmp_path)
    (tmp_path / "a").write_text("two")
    assert fingerprint(tmp_path) == first
    write_sums(tmp_path)
    assert fingerprint(tmp_path) != first


def test_a_fingerprint_covers_the_code_that_is_loaded(tmp_path, monkeypatch):
    source = tmp_path / "module.py"
    source.write_text("x = 1")
    module = types.ModuleType("snojoe.module")
    module.__file__ = str(source)
    before = fingerprint()
    monkeypatch.setitem(sys.modules, "snojoe.module", module)
    with_module = fingerprint()
    source.write_text("x = 2")
    assert len({before, with_module, fingerprint()}) == 3


@pytest.fixture
def noted(tmp_path):
    """A note, the folder that it names, and an empty one."""
    folder, target = tmp_path / "sn8", tmp_path / "copy"
    (folder / "seed0").mkdir(parents=True)
    target.mkdir()
    (folder / "config").write_text("8")
    (folder / "seed0/outputs").write_bytes(b"outputs")
    note(tmp_path / "notes/abc.json", folder)
    return tmp_path / "notes/abc.json", folder, target


def test_what_was_made_before_is_copied(noted, tmp_path):
    path, folder, target = noted
    assert copy_made_before(path, target, tmp_path / "sn9") == folder
    assert (target / "config").read_text() == "8"
    assert (target / "seed0/outputs").read_bytes() == b"outputs"


def test_what_has_changed_since_is_not(noted, tmp_path):
    path, folder, target = noted
    (folder / "seed0/outputs").write_bytes(b"0utputs")
    with pytest.raises(LookupError, match="sn8 has changed"):
        copy_made_before(path, target, tmp_path / "sn9")
    (folder / "config").unlink()
    with pytest.raises(LookupError, match="config"):
        copy_made_before(path, target, tmp_path / "sn9")


def test_nothing_is_a_copy_of_itself(noted):
    path, folder, target = noted
    with pytest.raises(LookupError, match="sn8 is to be made again"):
        copy_made_before(path, target, folder)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_no_note_and_half_a_note_name_nothing(noted, tmp_path, content):
    path, _, target = noted
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(LookupError, match=r"abc\.json"):
        copy_made_before(path, target, tmp_path / "sn9")
