"""Files by people who mean harm: nothing is run, nothing is written elsewhere, nothing bursts."""

import contextlib
import gzip
import io
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pytest
import torch
import yaml
from committed import committed
from conftest import annotation, jpeg, model_config, voc_files, write_folder, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from snojoe.data import archives
from snojoe.data.archives import Archive
from snojoe.data.images import ImageError, decode
from snojoe.data.labelled import LabelledImages
from snojoe.data.prepare import prepare
from snojoe.data.prepared import read_classes
from snojoe.data.shards import Shards
from snojoe.model.classifier import build_classifier
from snojoe.model.folder import load_model
from snojoe.params import Data, load_params
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_sums
from snojoe.training.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[1]
IMAGES = {"a": [("dog", False)], "b": [("dog", False)], "c": [("dog", False)]}
LISTS = {"train": ["a"], "val": ["b"], "test": ["c"]}


def data_settings(folder, ood="other.tar", **changes):
    return Data.model_validate(
        {
            "folder": str(folder),
            "id": [{"path": "voc.tar"}],
            "ood": {"other": {"path": ood}},
            "splits": {split: [f"VOC2012/{split}"] for split in LISTS},
            "image_size": 16,
            "difficult": True,
            "max_bad_share": 0.5,
            "expected": None,
            "digits": {"size": 32, "train": 1, "val": 1, "test": 1, "ood": 1, "seed": 0},
        }
        | changes
    )


def run(folder, files=None, **changes):
    write_tar(folder / "voc.tar", voc_files(IMAGES, LISTS) if files is None else files)
    data = data_settings(folder, **changes)
    prepare(data, lambda source: folder / source.path, folder / "out/prepared", lambda line: None)
    return folder / "out/prepared"


def test_members_that_climb_out_write_nothing_and_read_nothing(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(1))
    path = tmp_path / "in/other.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name in ("../../climbed.jpg", "/tmp/absolute.jpg", "x/../../y.jpg", "good.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg(2))
            tar.addfile(member, io.BytesIO(jpeg(2)))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"link{kind.decode()}.jpg")
            member.type, member.linkname = kind, str(secret)
            tar.addfile(member)
    prepared = run(tmp_path / "in")
    table = Shards(prepared / "ood/other").table(["id", "pixels"]).to_pylist()
    assert len(table) == 4
    assert len({row["pixels"] for row in table}) == 1  # no link was followed
    outside = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert not {"climbed.jpg", "absolute.jpg", "y.jpg"} & outside


def test_a_gzip_bomb_stops_early_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_CHUNK", 2**10)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/other.tar").write_bytes(gzip.compress(bytes(2**22)))
    with pytest.raises(SnojoeError, match=r"other\.tar: a decompression bomb: grows 100 times"):
        run(tmp_path / "in")
    assert list((tmp_path / "in/out").iterdir()) == []


def test_an_image_bomb_is_left_out_without_being_unpacked(tmp_path):
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")  # 400 megapixels in 50 kB
    write_tar(tmp_path / "other.tar", {"bomb.png": buffer.getvalue(), "good.jpg": jpeg()})
    tracemalloc.start()
    prepared = run(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert Shards(prepared / "ood/other").table(["id"])["id"].to_pylist() == ["good.jpg"]


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICNS", "PCX"])
def test_only_the_formats_that_are_asked_for_are_opened(kind):
    """EPS would start Ghostscript."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, kind)
    with pytest.raises(ImageError, match="not an image of a known format"):
        decode(buffer.getvalue())


@pytest.mark.parametrize(
    "prologue",
    [
        '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>',
        '<!DOCTYPE a [<!ENTITY c SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a [<!ENTITY % c SYSTEM "http://127.0.0.1:9/x.dtd"> %c;]>',
    ],
)
def test_entities_in_annotations_are_refused(tmp_path, prologue):
    files = voc_files(IMAGES, LISTS)
    name = "VOCdevkit/VOC2012/Annotations/a.xml"
    files[name] = prologue.encode() + annotation([("&c;", False)])
    images = LabelledImages([Archive(write_folder(tmp_path / "voc", files), tmp_path)])
    with pytest.raises(SnojoeError, match=r"Annotations/a\.xml is not valid XML \(Entities"):
        images.images(["VOC2012/train"])


class Code:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_code_in_weights_models_and_checkpoints_is_not_run(tmp_path, capsys):
    path = tmp_path / f"{'a' * 32}.pt"
    torch.save({"model": Code(), "training": path.stem}, path)
    assert read_checkpoint(path) is None
    assert "not a checkpoint of this training" in capsys.readouterr().out
    with pytest.raises(SnojoeError, match="not a readable state dict"):
        build_classifier("resnet10", 2, path)
    path.rename(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(model_config(["a"]).model_dump_json())
    write_sums(tmp_path)
    with pytest.raises(SnojoeError, match="damaged model directory"):
        load_model(tmp_path)


NAMES = [
    "$(touch pwned)",
    "a;rm -rf x",
    "`id`",
    "näher dran",
    "犬 と 猫",
    'it\'s "quoted"',
    "a&lt;b",
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_of_classes_folders_and_paths_are_only_names(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = {image: [(name, False)] for image in IMAGES}
    folder = tmp_path / name.replace("/", " ")
    write_tar(folder / f"{name}.tar", {f"{name}/{name}.jpg": jpeg(), "Ω/ü.png.jpg": jpeg(1)})
    prepared = run(folder, voc_files(images, LISTS), ood=f"{name}.tar")
    assert read_classes(prepared) == [name.replace("&lt;", "<")]
    ids = Shards(prepared / "ood/other").table(["id"])["id"].to_pylist()
    assert ids == sorted([f"{name}/{name}.jpg", "Ω/ü.png.jpg"])
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "$(id)", "a b", "", ".hidden", "-rf", "a\nb", "é"]
)
def test_the_name_of_an_ood_set_becomes_a_folder_and_is_checked(tmp_path, name):
    tree = yaml.safe_load(committed("params.yaml"))
    tree["data"]["ood"] = {name: {"embedded": "textures"}}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    with pytest.raises(SnojoeError, match=r"params\.yaml: data\.ood\."):
        load_params(path)


def test_no_parameter_reaches_a_shell():
    """DVC puts what ``${...}`` stands for into a command without quoting it."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert not [name for name, stage in stages.items() if "${" in stage["cmd"]]


@given(
    st.binary(max_size=400), st.sampled_from([b"", jpeg()[:300], b"II*\0", b"BM", b"RIFF....WEBP"])
)
@settings(deadline=None, max_examples=100)
def test_any_bytes_are_an_image_or_an_image_error(content, start):
    with contextlib.suppress(ImageError):
        decode(start + content)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
@settings(deadline=None, max_examples=100)
def test_any_text_is_refused_as_parameters(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(SnojoeError, match=r"^\S+params\.yaml: "):
            load_params(path)


@given(st.binary(max_size=2000), st.sampled_from([b"", b"\x1f\x8b\x08", bytes(512)]))
@settings(deadline=None, max_examples=100)
def test_any_bytes_are_an_archive_or_named(content, start):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tar"
        path.write_bytes(start + content)
        with contextlib.suppress(SnojoeError):
            assert all(isinstance(member, bytes) for member in Archive(path, Path(folder)).values())
