import io
import sys

import pytest
from conftest import write_folder

from snojoe.detect.image_files import image_files

FILES = dict.fromkeys(
    ["b.jpg", "a.PNG", "notes.txt", "._a.jpg", "sub/c.gif", ".hidden/d.jpg", "x[1].jpg"], b""
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folder(tmp_path, {f"photos/{name}": b"" for name in FILES}))
    (tmp_path / "empty").mkdir()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["photos"], ["photos/a.PNG", "photos/b.jpg", "photos/x[1].jpg", "photos/sub/c.gif"]),
        (["photos/b.jpg", "photos/b.jpg"], ["photos/b.jpg", "photos/b.jpg"]),
        (["./photos/notes.txt"], ["./photos/notes.txt"]),
        (["photos/*.jpg"], ["photos/b.jpg", "photos/x[1].jpg"]),
        (["photos/**/c.*"], ["photos/sub/c.gif"]),
        (["photos/x[1].jpg"], ["photos/x[1].jpg"]),
        (["empty", "gone.jpg", "no*.jpg"], ["empty", "gone.jpg", "no*.jpg"]),
    ],
)
def test_files_folders_and_patterns(arguments, expected):
    assert list(image_files(arguments)) == expected


def test_a_list_on_standard_input(monkeypatch):
    lines = io.BytesIO(b"photos/b.jpg\r\n\nphotos/sub\ncaf\xe9.jpg\n-\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
    found = ["photos/b.jpg", "photos/sub/c.gif", "caf\udce9.jpg", "-", "photos/a.PNG"]
    assert list(image_files(["-", "photos/a.PNG"])) == found


def test_a_link_that_leads_back_ends(tmp_path):
    (tmp_path / "photos/sub/loop").symlink_to(tmp_path / "photos")
    assert len(list(image_files(["photos"]))) == 4
