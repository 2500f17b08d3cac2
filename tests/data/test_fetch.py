import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import write_tar

from snojoe.data.fetch import download, fetch, fetch_weights, locate, weights_file
from snojoe.errors import SnojoeError
from snojoe.params import Data, Source


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

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def data(tmp_path, **sources):
    values = {
        "folder": str(tmp_path / "mine"),
        "id": [{"embedded": "digits"}],
        "ood": {"other": {"path": "ood.tar"}},
        "splits": {"train": ["a/b"], "val": ["a/c"], "test": ["a/d"]},
        "image_size": 32,
        "difficult": True,
        "max_bad_share": 0.0,
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
    settings = data(
        tmp_path,
        ood={"one": {"path": "ood.tar", "sha256": "0" * 64}, "two": {"path": "absent.tar"}},
    )
    with pytest.raises(
        SnojoeError, match=r"(?s)ood\.tar: expected sha256 0+; got .*absent\.tar: no"
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
    source = Source(url=["http://a/x.tar.gz", "http://b/y.tar.gz"], sha256="0" * 64)
    assert source.filename == "x.tar.gz"
