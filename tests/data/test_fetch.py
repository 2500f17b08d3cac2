import contextlib
import hashlib
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from committed import committed
from conftest import write_folder, write_tar

from snojoe.data.fetch import (
    check_archives,
    download,
    fetch,
    locate,
    partial_download,
)
from snojoe.data.weights import fetch_weights
from snojoe.model.weights import weights_file
from snojoe.params import ArchiveSource, Data
from snojoe.support.errors import SnojoeError


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def server(tmp_path):
    """A server on loopback; returns its folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with serving(partial(Handler, directory=str(folder))) as address:
        yield folder, address


@contextlib.contextmanager
def serving(handler):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Dropping(BaseHTTPRequestHandler):
    """Serves CONTENT, but the connection breaks after ``gives`` bytes, ``drops`` times."""

    gives, drops, ranges = 1_300_000, 0, True
    asked: ClassVar[list]

    def log_message(self, *args):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        self.asked.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted and self.ranges else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        rest = CONTENT[start:]
        if len(self.asked) <= self.drops:
            rest = rest[: self.gives]
        self.wfile.write(rest)
        self.close_connection = True


def dropping(**settings):
    return type("Handler", (Dropping,), {"asked": [], **settings})


def data(tmp_path, **sources):
    values = {
        "folder": str(tmp_path / "mine"),
        "id": [{"embedded": "digits"}],
        "ood": {"other": {"path": "ood.tar"}},
        "splits": {"train": ["a/b"], "val": ["a/c"], "test": ["a/d"]},
        "image_size": 32,
        "difficult": True,
        "max_bad_share": 0.0,
        "expected": None,
        "digits": {"size": 32, "train": 2, "val": 2, "test": 2, "ood": 2, "seed": 0},
    }
    return Data.model_validate(values | sources)


def test_embedded_local_and_downloaded_sets_are_found_where_locate_says(tmp_path, server):
    served, address = server
    remote = write_tar(served / "textures.tar", {"a/1.jpg": b"x"})
    local = write_tar(tmp_path / "mine" / "ood.tar", {"a/2.jpg": b"y"})
    settings = data(
        tmp_path,
        ood={
            "mine": {"path": "ood.tar", "sha256": checksum(local)},
            "theirs": {"url": [f"{address}/textures.tar"], "sha256": checksum(remote)},
        },
    )
    raw = tmp_path / "raw"
    lines = fetch(settings, raw, tmp_path / "downloads")
    assert len(lines) == 3
    for source in (*settings.id, *settings.ood.values()):
        assert locate(source, tmp_path / "mine", raw).is_file()
    assert (raw / "textures.tar").read_bytes() == remote.read_bytes()
    assert locate(settings.ood["mine"], tmp_path / "mine", raw) == local


def test_every_missing_or_wrong_archive_is_named_before_anything_is_made(tmp_path):
    write_tar(tmp_path / "mine" / "ood.tar", {"a/2.jpg": b"y"})
    (tmp_path / "mine" / "folder").mkdir()
    settings = data(
        tmp_path,
        ood={
            "one": {"path": "ood.tar", "sha256": "0" * 64},
            "two": {"path": "absent.tar"},
            "three": {"path": "folder", "sha256": "0" * 64},
        },
    )
    with pytest.raises(
        SnojoeError,
        match=r"(?s)ood\.tar: expected sha256 0+; got .*absent\.tar: no.*a folder has no",
    ):
        fetch(settings, tmp_path / "raw", tmp_path / "downloads")
    assert not (tmp_path / "raw").exists()


def test_the_second_address_is_tried_when_the_first_fails(tmp_path, server):
    served, address = server
    remote = write_tar(served / "good" / "x.tar", {"a": b"x"})
    write_tar(served / "bad" / "x.tar", {"a": b"other"})
    addresses = [f"{address}/nowhere/x.tar", f"{address}/bad/x.tar", f"{address}/good/x.tar"]
    done = download(addresses, checksum(remote), tmp_path / "downloads")
    assert done.read_bytes() == remote.read_bytes()


def test_a_wrong_checksum_leaves_no_file(tmp_path, server):
    served, address = server
    write_tar(served / "x.tar", {"a": b"x"})
    with pytest.raises(SnojoeError, match=r"no source could be downloaded\n  http.*x\.tar"):
        download([f"{address}/x.tar"], "0" * 64, tmp_path / "downloads")
    assert [p for p in (tmp_path / "downloads").rglob("*") if p.is_file()] == []


def test_a_broken_connection_is_continued_where_it_broke(tmp_path):
    handler = dropping(drops=2)
    with serving(handler) as address:
        done = download([f"{address}/x.tar"], SHA256, tmp_path)
    assert done.read_bytes() == CONTENT
    assert handler.asked[0] == 0
    assert handler.asked[1:] == sorted(set(handler.asked[1:]))
    assert handler.asked[1] > 0


def test_the_next_run_continues_what_the_last_one_left(tmp_path):
    handler = dropping()
    partial_download(tmp_path, SHA256).write_bytes(CONTENT[:1_000_000])
    with serving(handler) as address:
        done = download([f"{address}/x.tar"], SHA256, tmp_path)
    assert handler.asked == [1_000_000]
    assert done.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [SHA256]


def test_a_server_without_ranges_starts_again(tmp_path):
    partial_download(tmp_path, SHA256).write_bytes(CONTENT[:1_000_000])
    with serving(dropping(ranges=False)) as address:
        assert download([f"{address}/x.tar"], SHA256, tmp_path).read_bytes() == CONTENT


def test_a_server_that_only_ever_drops_leaves_the_part_for_later(tmp_path):
    with serving(dropping(ranges=False, drops=99)) as address, pytest.raises(SnojoeError):
        download([f"{address}/x.tar"], SHA256, tmp_path)
    assert 0 < partial_download(tmp_path, SHA256).stat().st_size < len(CONTENT)


@pytest.mark.parametrize("left", [b"of another file" * 1000, CONTENT + b"too long", CONTENT])
def test_whatever_an_earlier_run_left_the_file_comes_out_right(tmp_path, left):
    partial_download(tmp_path, SHA256).write_bytes(left)
    with serving(dropping()) as address:
        assert download([f"{address}/x.tar"], SHA256, tmp_path).read_bytes() == CONTENT


def test_what_is_right_is_not_downloaded_again(tmp_path):
    settings = {"url": ["http://127.0.0.1:9/x.tar"], "sha256": SHA256}
    write_tar(tmp_path / "mine" / "ood.tar", {"a": b""})
    write_folder(tmp_path / "raw", {"x.tar": CONTENT})
    values = data(tmp_path, id=[settings])
    fetch(values, tmp_path / "raw", tmp_path / "downloads")
    assert (tmp_path / "raw" / "x.tar").read_bytes() == CONTENT


def test_a_wrong_download_leaves_the_good_file(tmp_path, server):
    served, address = server
    write_tar(tmp_path / "mine" / "ood.tar", {"a": b""})
    raw, downloads = tmp_path / "raw", tmp_path / "downloads"
    remote = write_tar(served / "x.tar", {"a": b"good"})
    url = {"url": [f"{address}/x.tar"], "sha256": checksum(remote)}
    fetch(data(tmp_path, id=[url]), raw, downloads)
    before = {path.name: path.read_bytes() for path in raw.iterdir()}
    with pytest.raises(SnojoeError, match="no source could be downloaded"):
        fetch(data(tmp_path, id=[url | {"sha256": "0" * 64}]), raw, downloads)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == before


def test_what_no_source_names_any_more_waits_and_comes_back(tmp_path, server):
    served, address = server
    write_tar(tmp_path / "mine" / "ood.tar", {"a": b""})
    raw, downloads = tmp_path / "raw", tmp_path / "downloads"
    remote = write_tar(served / "x.tar", {"a": b"x"})
    with_url = data(tmp_path, id=[{"url": [f"{address}/x.tar"], "sha256": checksum(remote)}])
    fetch(with_url, raw, downloads)
    fetch(data(tmp_path), raw, downloads)
    assert {path.name for path in raw.iterdir()} == {"digits.tar", "checksums.json"}
    content = remote.read_bytes()
    remote.unlink()
    fetch(with_url, raw, downloads)
    assert {path.name for path in raw.iterdir()} == {"x.tar", "checksums.json"}
    assert (raw / "x.tar").read_bytes() == content


@pytest.mark.parametrize("name", ["digits.tar", "mine.tar"])
def test_a_users_edit_of_raw_data_is_never_overwritten(tmp_path, name):
    write_tar(tmp_path / "mine" / "ood.tar", {"a": b""})
    raw, downloads = tmp_path / "raw", tmp_path / "downloads"
    fetch(data(tmp_path), raw, downloads)
    (raw / name).write_bytes(b"edited")
    with pytest.raises(SnojoeError, match=rf"{name}: not as this program wrote it"):
        fetch(data(tmp_path), raw, downloads)
    assert (raw / name).read_bytes() == b"edited"


def test_other_parameters_replace_what_the_program_made(tmp_path):
    write_tar(tmp_path / "mine" / "ood.tar", {"a": b""})
    raw, downloads = tmp_path / "raw", tmp_path / "downloads"
    fetch(data(tmp_path), raw, downloads)
    before = (raw / "digits.tar").read_bytes()
    digits = {"size": 32, "train": 2, "val": 2, "test": 2, "ood": 2, "seed": 1}
    fetch(data(tmp_path, digits=digits), raw, downloads)
    assert (raw / "digits.tar").read_bytes() != before


def test_a_missing_archive_comes_with_where_to_get_it(tmp_path):
    settings = data(tmp_path, ood={"one": {"path": "absent.tar", "obtain": "ask the library"}})
    with pytest.raises(SnojoeError, match=r"absent\.tar: no such archive.*\n  ask the library"):
        fetch(settings, tmp_path / "raw", tmp_path / "downloads")


def test_an_edit_of_the_weights_is_never_overwritten(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    target = tmp_path / "weights"
    fetch_weights("resnet18", "w.pth", tmp_path, target)
    (target / "weights.pth").write_bytes(b"edited")
    with pytest.raises(SnojoeError, match=r"weights\.pth: not as this program wrote it"):
        fetch_weights("resnet18", "w.pth", tmp_path, target)
    assert (target / "weights.pth").read_bytes() == b"edited"


def test_named_weights_are_downloaded_once(tmp_path, monkeypatch):
    calls = []

    def fake(arch, name, path):
        calls.append(name)
        path.write_bytes(name.encode())

    monkeypatch.setattr("snojoe.data.weights._download_torchvision_weights", fake)
    for name in ("V1", "V1", "V2"):
        fetch_weights("resnet18", name, tmp_path, tmp_path / "weights")
    assert calls == ["V1", "V2"]


def test_weights_from_the_users_folder(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    target = tmp_path / "weights"
    fetch_weights("resnet18", "w.pth", tmp_path, target)
    found = weights_file(target)
    assert found is not None
    assert found.read_bytes() == (tmp_path / "w.pth").read_bytes()
    fetch_weights("resnet18", None, tmp_path, target)
    assert weights_file(target) is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("absent.pth", r"absent\.pth: no such weights file \(model\.weights\)"),
        ("IMAGENET9", "or a torchvision name for resnet18; got 'IMAGENET9'"),
    ],
)
def test_wrong_weights_are_named(tmp_path, weights, message):
    with pytest.raises(SnojoeError, match=message):
        fetch_weights("resnet18", weights, tmp_path, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_a_source_is_named_after_its_first_address():
    source = ArchiveSource(url=["http://a/x.tar.gz", "http://b/y.tar.gz"], sha256="0" * 64)
    assert source.filename == "x.tar.gz"


def test_a_copy_for_the_queue_says_what_it_has(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc/tmp/exps/tmpx"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    values = yaml.safe_load(committed("params.yaml"))["data"] | {"id": [{"path": "pets"}]}
    message = r"(?s)no such archive.*only what git or DVC tracks: dvc add archives/pets"
    with pytest.raises(SnojoeError, match=message):
        check_archives(Data.model_validate(values), tmp_path / "raw")
