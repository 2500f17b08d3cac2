"""What is in the project's name: data, models and results as versions, in temporary clones."""

import json
import re

import pytest
import torch
import yaml
from conftest import jpeg, voc_files, write_folder, write_tar
from test_pipeline import Checkout, ran

from snojoe.model.classifier import resnet10

# One depth and one seed: a single model. Two OOD sets of the user's own, and one made here.
OWN_DATA = {
    "id": [{"path": "voc"}],
    "ood": {
        "animals": {"path": "animals"},
        "textures": {"path": "textures.tar"},
        "patterns": {"embedded": "textures"},
    },
    "splits": {"train": ["VOC2012/train"], "val": ["VOC2012/val"], "test": ["VOC2012/test"]},
}
ONE_DEPTH = {"sn_layers": 0, "ablation": {"sn_layers": [0, 0, 0, 0]}}
SPLITS = {"train": 16, "val": 8, "test": 8}
RESULTS = {"score", "ablate", "report"}  # depend on what was prepared: they print counts and images
LABELS = ("cat", "dog")
ANNOTATIONS = "archives/voc/VOCdevkit/VOC2012/Annotations"


class Clone(Checkout):
    """A ``git clone`` of a checkout, on its last commit."""

    def __init__(self, origin, folder):
        self.folder = folder
        origin("git", "clone", "--quiet", ".", str(folder))


def own_set():
    """Files of a VOC tree with two classes that take turns."""
    ids = {split: [f"{split}{i}" for i in range(count)] for split, count in SPLITS.items()}
    every = [image_id for split in ids.values() for image_id in split]
    images = {image_id: [(LABELS[i % 2], False)] for i, image_id in enumerate(every)}
    return voc_files(images, ids, class_lists=LABELS)


def textures(path, first):
    write_tar(path, {f"dots/{i}.jpg": jpeg(first + i) for i in range(8)})


def configure(checkout, **sections):
    path = checkout.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, value in sections.items():
        params[name] = params[name] | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(params))


def commit(checkout, message):
    checkout("git", "add", "--all")
    checkout("git", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The user's archives, added to DVC; one ``dvc repro``; a commit and a push."""
    checkout = Checkout(tmp_path_factory.mktemp("versions"))
    archives = checkout.folder / "archives"
    write_folder(archives / "voc", own_set())
    write_folder(archives / "animals", {f"a/{i}.jpg": jpeg(100 + i) for i in range(8)})
    textures(archives / "textures.tar", first=200)
    configure(checkout, data=OWN_DATA, **ONE_DEPTH)
    checkout("dvc", "remote", "add", "--default", "share", str(tmp_path_factory.mktemp("remote")))
    checkout("dvc", "add", "archives/voc", "archives/animals", "archives/textures.tar")
    checkout("dvc", "repro")
    commit(checkout, "results")
    checkout("dvc", "push", "--run-cache")
    return checkout


@pytest.fixture
def checkout(finished):
    """The finished experiment, brought back to its first commit afterwards."""
    first = finished("git", "rev-parse", "HEAD").strip()
    yield finished
    finished("git", "reset", "--hard", "--quiet", first)
    finished("dvc", "checkout", "--force")


def test_a_replaced_image_reruns_what_depends_on_it_and_going_back_computes_nothing(checkout):
    before = {p.name: p.read_bytes() for p in (checkout.folder / "metrics").iterdir()}
    model = (checkout.folder / "models/sn0/seed0/model.safetensors").read_bytes()
    image = checkout.folder / "archives/animals/a/0.jpg"
    old = image.read_bytes()
    familiar = checkout.folder / ANNOTATIONS.replace("Annotations", "JPEGImages/test0.jpg")
    image.write_bytes(familiar.read_bytes())
    stages = ran(checkout("dvc", "repro"))
    assert set(stages) == {"download", "preprocess", "infer_ood@0", "score", "ablate", "report"}

    changes = json.loads(checkout("dvc", "diff", "--json"))
    paths = {change["path"] for change in changes["modified"]}
    assert {"archives/animals/a/0.jpg", "data/prepared/ood/animals/00000.parquet"} <= paths
    assert not any("train" in path or "model" in path for path in paths)
    assert sum(path.startswith("archives/animals/a/") for path in paths) == 1
    assert not changes["added"]
    assert not changes["deleted"]
    (differences,) = json.loads(checkout("dvc", "metrics", "diff", "--json")).values()
    assert all("animals" in name or "mean" in name for name in differences)
    assert differences

    commit(checkout, "another image")
    checkout("git", "checkout", "--quiet", "HEAD~1")
    checkout("dvc", "checkout")
    assert image.read_bytes() == old
    assert (checkout.folder / "models/sn0/seed0/model.safetensors").read_bytes() == model
    assert {p.name: p.read_bytes() for p in (checkout.folder / "metrics").iterdir()} == before
    assert ran(checkout("dvc", "repro")) == []


def changed(checkout):
    """Stages with a changed dependency."""
    status = json.loads(checkout("dvc", "status", "--json"))
    return {stage for stage in status if not stage.endswith(".dvc")}


def test_a_replaced_test_label_trains_nothing(checkout):
    label = checkout.folder / ANNOTATIONS / "test0.xml"
    label.write_bytes((checkout.folder / ANNOTATIONS / "test1.xml").read_bytes())
    assert ran(checkout("dvc", "repro", "preprocess")) == ["download", "preprocess"]
    assert changed(checkout) == {"infer_id@0", *RESULTS}
    assert f"{ANNOTATIONS}/test0.xml" in checkout("dvc", "diff")


def test_a_replaced_train_label_retrains(checkout):
    label = checkout.folder / ANNOTATIONS / "train0.xml"
    label.write_bytes((checkout.folder / ANNOTATIONS / "train1.xml").read_bytes())
    checkout("dvc", "repro", "preprocess")
    assert changed(checkout) == {"train@0-0", "infer_id@0", *RESULTS}


def test_a_replaced_archive_reruns_what_depends_on_it(checkout):
    textures(checkout.folder / "archives/textures.tar", first=300)
    assert ran(checkout("dvc", "repro", "preprocess")) == ["download", "preprocess"]
    assert {"infer_ood@0"} <= changed(checkout) <= {"infer_ood@0", *RESULTS}
    assert "archives/textures.tar" in checkout("dvc", "diff")


def test_local_weights_are_a_dependency(checkout):
    path = checkout.folder / "archives/w.pth"
    torch.save(resnet10().state_dict(), path)
    configure(checkout, model={"weights": "w.pth"})
    checkout("dvc", "repro", "download")
    assert "train@0-0" in changed(checkout)
    torch.save(resnet10().state_dict(), path)  # other random weights
    assert ran(checkout("dvc", "repro", "download")) == ["download"]
    assert (checkout.folder / "data/weights/weights.pth").read_bytes() == path.read_bytes()
    path.unlink()


def test_a_users_edit_of_raw_data_is_never_overwritten(checkout):
    path = checkout.folder / "data/raw/textures.tar"
    path.write_bytes(b"mine")
    output = checkout("dvc", "repro", fails=True)
    assert "data/raw/textures.tar: not as this program wrote it" in output
    assert "Traceback" not in output
    assert path.read_bytes() == b"mine"
    path.unlink()
    checkout("dvc", "checkout", "data/raw")
    assert ran(checkout("dvc", "repro")) == []


def test_a_users_edit_of_an_archive_is_never_overwritten_by_checkout(checkout):
    path = checkout.folder / "archives/textures.tar"
    textures(path, first=400)
    edited = path.read_bytes()
    checkout("dvc", "checkout", fails=True)
    assert path.read_bytes() == edited


def test_earlier_parameters_of_the_raw_data_bring_back_what_was_prepared(checkout):
    digits = yaml.safe_load((checkout.folder / "params.yaml").read_text())["data"]["digits"]
    configure(checkout, data={"digits": digits | {"seed": 1}})
    assert ran(checkout("dvc", "repro", "preprocess")) == ["download", "preprocess"]
    configure(checkout, data={"digits": digits})
    assert ran(checkout("dvc", "repro", "preprocess")) == ["download"]
    assert changed(checkout) == set()


def test_a_second_clone_pulls_and_has_nothing_to_do(checkout, tmp_path):
    clone = Clone(checkout, tmp_path / "second")
    clone("dvc", "pull")
    assert ran(clone("dvc", "repro")) == []
    for name in ("archives/textures.tar", "models/sn0/seed0/model.safetensors"):
        assert (clone.folder / name).read_bytes() == (checkout.folder / name).read_bytes()


def test_models_trained_in_two_clones_are_shared(checkout, tmp_path):
    clone = Clone(checkout, tmp_path / "second")
    clone("dvc", "pull")
    for each in (clone, checkout):
        configure(each, seeds=[0, 1])
    assert ran(clone("dvc", "repro", "train")) == ["train@0-1"]
    clone("dvc", "push", "--run-cache")

    # `dvc pull --run-cache` would stop at the model that is not in dvc.lock yet.
    output = checkout("dvc", "repro", "--pull", "train")
    assert ran(output) == []
    assert re.search(r"train@0-1.* is cached", output)
    model = "models/sn0/seed1/model.safetensors"
    assert (checkout.folder / model).read_bytes() == (clone.folder / model).read_bytes()
