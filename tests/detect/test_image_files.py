import io
import sys

import pytest
from conftest import jpeg, write_folder

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


def test_links_to_folders_are_followed_each_folder_once(tmp_path):
    write_folder(tmp_path / "elsewhere", {"z.jpg": b""})
    for name in ("link", "other"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "elsewhere")
    assert [f for f in image_files(["photos"]) if "z.jpg" in f] == ["photos/link/z.jpg"]


def test_what_may_be_a_photograph_is_passed_on_and_the_rest_counted(tmp_path):
    files = {"IMG_1.HEIC": b"x", "b.NEF": b"x", "scan": jpeg(), "LICENSE": b"text", "film.mov": b""}
    write_folder(tmp_path / "phone", files)
    left_out = {}
    found = list(image_files(["phone"], left_out))
    assert found == ["phone/IMG_1.HEIC", "phone/b.NEF", "phone/scan"]
    assert left_out == {
        "files without suffix": ["phone/LICENSE"], ".mov files": ["phone/film.mov"]
    }  # fmt: skip
    left_out = {}
    assert len(list(image_files(["photos"], left_out))) == 4
    assert left_out == {
        ".txt files": ["photos/notes.txt"],
        "hidden files": ["photos/._a.jpg"],
        "hidden folders": ["photos/.hidden"],
    }
