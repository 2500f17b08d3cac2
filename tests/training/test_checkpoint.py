import sys
import types

from snojoe.support.files import write_sums
from snojoe.training.checkpoint import fingerprint


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
