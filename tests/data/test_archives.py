import gzip
import struct

import numpy as np
import pytest
from conftest import write_folder, write_tar

from snojoe.data.archives import Archive
from snojoe.data.images import decode, is_image
from snojoe.support.errors import SnojoeError

FILES = {"b/two.txt": b"two", "a/one.txt": b"one", "b/empty": b""}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_and_a_folder_hold_the_same_files(tmp_path, suffix):
    mode = "w:gz" if suffix == ".tar.gz" else "w"
    tar = Archive(write_tar(tmp_path / f"x{suffix}", FILES, mode), tmp_path)
    folder = Archive(write_folder(tmp_path / "folder", FILES), tmp_path)
    assert dict(tar) == dict(folder) == FILES
    assert list(tar) == sorted(FILES)


def test_a_tar_in_a_folder_counts_as_a_folder(tmp_path):
    write_tar(tmp_path / "sets" / "n02069412.tar", {"a.jpg": b"dolphin"})
    write_folder(tmp_path / "sets" / "leech", {"b.jpg": b"leech"})
    archive = Archive(tmp_path / "sets", tmp_path)
    assert dict(archive) == {"leech/b.jpg": b"leech", "n02069412/a.jpg": b"dolphin"}


def test_what_is_there_as_a_tar_and_as_a_folder_is_known(tmp_path):
    for name in ("twice.tar", "once.tar", "both.tar", "both.tar.gz"):
        write_tar(tmp_path / "sets" / name, {"a.jpg": b""})
    write_folder(tmp_path / "sets", {"twice/b.jpg": b"", "other/c.jpg": b""})
    assert Archive(tmp_path / "sets", tmp_path).brought_twice() == ["both", "twice"]
    assert Archive(tmp_path / "sets" / "once.tar", tmp_path).brought_twice() == []


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(SnojoeError, match=r"nowhere\.tar: no such archive"):
        Archive(tmp_path / "nowhere.tar", tmp_path)


def test_a_truncated_tar_is_named(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a": b"x" * 5000, "b": b"y" * 5000})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SnojoeError, match=r"x\.tar.*(ends in the middle|not a readable)"):
        dict(Archive(path, tmp_path))


def test_a_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(bytes(100_000))[:60])
    with pytest.raises(SnojoeError, match=r"x\.tar\.gz: not a readable tar"):
        Archive(path, tmp_path)


def test_text_is_no_tar(tmp_path):
    path = tmp_path / "x.tar"
    path.write_text("hello " * 500)
    with pytest.raises(SnojoeError, match=r"x\.tar: not a readable tar"):
        Archive(path, tmp_path)


def test_links_and_devices_are_no_files(tmp_path):
    import tarfile

    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"entry{kind.decode()}")
            member.type, member.linkname = kind, "../../secret"
            archive.addfile(member)
    assert list(Archive(path, tmp_path)) == []


def test_a_damaged_header_is_not_the_end_of_the_archive(tmp_path):
    path = write_tar(tmp_path / "x.tar", FILES)
    content = bytearray(path.read_bytes())
    content[1024 + 3] ^= 1  # the name of the second member
    path.write_bytes(content)
    with pytest.raises(SnojoeError, match=r"x\.tar: .*damaged at byte 1024"):
        Archive(path, tmp_path)


def test_a_member_that_is_there_twice_is_named(tmp_path):
    path = write_tar(tmp_path / "x.tar", FILES)
    write_tar(path, {"a/one.txt": b"other"}, mode="a")
    with pytest.raises(SnojoeError, match=r"x\.tar: holds a/one\.txt more than once"):
        Archive(path, tmp_path)


def test_what_is_no_file_is_left_out_by_kind(tmp_path):
    packed = ("a.jpg", "deep.tar.gz", "._b.jpg", "c.zip")
    write_tar(tmp_path / "sets/in.tar", dict.fromkeys(packed, b""))
    loose = (".ipynb_checkpoints/x.jpg", "._in.tar", "d.jpg")
    write_folder(tmp_path / "sets", dict.fromkeys(loose, b""))
    write_folder(tmp_path / "elsewhere", {"e.jpg": b""})
    (tmp_path / "sets/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sets/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    archive = Archive(tmp_path / "sets", tmp_path)
    assert list(archive) == ["d.jpg", "in/a.jpg"]
    assert archive.left_out == {
        "hidden files": ["._in.tar", ".ipynb_checkpoints/x.jpg", "in/._b.jpg"],
        "broken links": ["broken.jpg"],
        "archives inside an archive": ["in/deep.tar.gz", "in/c.zip"],
        "links to folders": ["link"],
    }


def test_a_link_within_a_tar_is_the_file(tmp_path):
    import tarfile

    path = write_tar(tmp_path / "x.tar", {"in/a": b"one"})
    with tarfile.open(path, "a") as archive:
        for name, kind, target in (("b", tarfile.LNKTYPE, "in/a"), ("in/c", tarfile.SYMTYPE, "a")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    assert dict(Archive(path, tmp_path)) == {"in/a": b"one", "b": b"one", "in/c": b"one"}


def test_a_damaged_member_of_a_zip_is_named(tmp_path):
    import zipfile

    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"cuntent"))
    with pytest.raises(SnojoeError, match=r"x\.zip: a\.jpg is damaged"):
        Archive(path, tmp_path)["a.jpg"]


@pytest.mark.parametrize("name", ["x.7z", "x.rar", "x.tar.zst", "x.gz"])
def test_what_is_not_read_says_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"7z\xbc\xaf" * 300)
    with pytest.raises(SnojoeError, match=r"not a readable tar .*: unpack it, and name the folder"):
        Archive(tmp_path / name, tmp_path)


def idx(images, dimensions=3):
    """Images (n, rows, columns) as MNIST has them."""
    return bytes([0, 0, 8, dimensions]) + struct.pack(">3I", *images.shape) + images.tobytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_images_of_an_idx_file_are_pictures(tmp_path, compress):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(compress(idx(images)))
    archive = Archive(path, tmp_path)
    assert list(archive) == [f"{i:05}.pgm" for i in range(3)]
    for name, image in zip(archive, images, strict=True):
        assert is_image(name)
        np.testing.assert_array_equal(np.asarray(decode(archive[name]).convert("L")), image)
        assert archive.size(name) == len(archive[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros((3, 4, 5), np.uint8))[:-1], "expected 3 images of 4 x 5 bytes; got 59 bytes"),
        (idx(np.zeros((9, 0, 1), np.uint8)), "expected 9 images of 0 x 1 bytes; got 0 bytes"),
        (idx(np.zeros((9, 1, 1), np.uint8), 1), "expected images, in 3 dimensions; .* has 1"),
        (b"\0\0\x08\x03", "not a readable IDX archive"),
        (
            gzip.compress(idx(np.zeros((3, 4, 5), np.uint8)), mtime=0)[:-9],
            "not a readable IDX archive",
        ),
    ],
)
def test_a_wrong_idx_file_is_named(tmp_path, content, message):
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(SnojoeError, match=rf"t10k-images-idx3-ubyte: {message}"):
        Archive(path, tmp_path)
