import copy
import difflib
from pathlib import Path

import pytest
import yaml
from committed import committed
from dvc.utils.hydra import apply_overrides

from snojoe.data.prepared import PreparedSets
from snojoe.model.architectures import LEAST_SIZE
from snojoe.params import Params, load_params
from snojoe.results.paper import JOINT_ENERGYS, MS_COCO, NUS, PASCAL_VOC, beside_table2
from snojoe.support.errors import SnojoeError

ROOT = Path(__file__).parents[1]
DEFAULT = yaml.safe_load(committed("params.yaml"))


TWO_ARCHIVES = [
    {"url": [f"http://127.0.0.1/{name}/images.tar"], "sha256": name * 64} for name in "ab"
]


def load(tmp_path, change):
    tree = copy.deepcopy(DEFAULT)
    change(tree)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_params(path)


def set_to(dotted, value):
    def change(tree):
        *sections, last = dotted.split(".")
        for section in sections:
            tree = tree[section]
        tree[last] = value

    return change


def keys(tree, prefix=""):
    """Names of all parameters; lists, OOD sets and expected numbers hold the user's own."""
    for name, value in tree.items():
        yield prefix + name
        if isinstance(value, dict) and name not in (
            "ood",
            "expected",
            "label_meanings",
            "same_class",
        ):
            yield from keys(value, f"{prefix}{name}.")


PUBLISHED = ("paper", "coco", "nuswide")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_default_and_the_published_parameters_are_valid(name):
    assert Params.model_validate(DEFAULT).depths == [0, 7, 8, 9]
    assert load_params(ROOT / "params" / f"{name}.yaml").depths == [0, 7, 8, 9]


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_files_have_the_same_keys(name):
    published = yaml.safe_load((ROOT / "params" / f"{name}.yaml").read_text())
    assert list(keys(published)) == list(keys(DEFAULT))


def test_the_published_experiments_differ_in_their_data_alone():
    trees = [yaml.safe_load((ROOT / "params" / f"{name}.yaml").read_text()) for name in PUBLISHED]
    for tree in trees:
        del tree["data"]
    assert trees[0] == trees[1] == trees[2]


@pytest.mark.parametrize(
    ("name", "id_set"), [("paper", PASCAL_VOC), ("coco", MS_COCO), ("nuswide", NUS)]
)
def test_published_figures_stand_beside_the_data_that_are_expected(name, id_set):
    """Where they are those of the parameters, JointEnergy's table finds its set."""
    data = load_params(ROOT / "params" / f"{name}.yaml").data
    images = data.expected.images
    assert images["test"] == id_set.test_images
    sets = {
        "id": {"test": {"images": images["test"]}},
        "id_test_is_val": False,
        "ood": {ood: {"images": images.get(ood, 1)} for ood in data.ood},
    }
    beside = beside_table2(PreparedSets.model_validate(sets), list(id_set.classes))
    assert list(beside[JOINT_ENERGYS]) == [next(iter(data.ood))]


def test_parameters_that_came_later_have_defaults(tmp_path):
    def older(tree):
        for name in ("unannotated", "label_meanings", "same_class", "group_pattern"):
            del tree["data"][name]
        del tree["arithmetic"], tree["train"]["threads"], tree["infer"]["threads"]
        del tree["data"]["outliers"], tree["train"]["loss"], tree["train"]["outliers"]

    params = load(tmp_path, older)
    assert (params.train.loss, params.train.outliers, params.data.outliers) == ("bce", None, None)
    assert (params.arithmetic, params.train.threads, params.infer.threads) == ("portable", 1, 1)


def comments(text):
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("name", ["params.yaml", *(f"params/{name}.yaml" for name in PUBLISHED)])
@pytest.mark.parametrize(
    ("setting", "lines"),
    [
        ("sn_layers=8", 1),
        ("train.freeze_after_epoch=null", 1),
        ("data.digits.seed=1", 1),
        ("data.unannotated=negative", 1),
        ("data.group_pattern='^(day[0-9]+)'", 1),
        ("+data.label_meanings.none=negative", 1),
        ("+data.same_class.sofa=[settee]", 2),
        ("data.splits={train:0.7,val:0.15,test:0.15}", 7),
        ("seeds=[0]", 5),
        ("ablation.sn_layers=[0,3,4,5]", 4),
        ("train.augment.scale=[0.5,1.0]", 2),
    ],
)
def test_dvc_changes_a_setting_and_nothing_else(tmp_path, name, setting, lines):
    path = tmp_path / "params.yaml"
    before = committed(name)
    path.write_text(before)
    apply_overrides(path, [setting])
    after = path.read_text()
    removed = [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line.startswith("- ")
    ]
    assert 1 <= len(removed) <= lines
    assert comments(after) == comments(before)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sn_layers", "eleven", "sn_layers: input should be a valid integer; got 'eleven'"),
        ("sn_layers", -1, "sn_layers: input should be greater than or equal to 0; got -1"),
        ("sn_layers", 99, "sn_layers: expected 0 to 10 for resnet10; got 99"),
        ("sn_layers", 9.0, "sn_layers: input should be a valid integer; got 9.0"),
        ("sn_layer", 9, "unknown parameter sn_layer: did you mean sn_layers?"),
        ("train.epoch", 9, r"unknown parameter train.epoch: did you mean epochs\?"),
        ("train.lr", 0.0, "train.lr: input should be greater than 0; got 0.0"),
        ("train.lr", float("nan"), "train.lr"),
        ("train.augment.scale", [1.0, 0.5], "train.augment.scale: expected the smaller bound"),
        ("train.gradient_accumulation", 17, "train: gradient_accumulation: expected at most half"),
        ("model.arch", "vgg16", "model.arch: expected one of resnet10, .*; got 'vgg16'"),
        ("seeds", [0, 0], r"seeds: expected distinct seeds; got \[0, 0\]"),
        ("seeds", [], "seeds: list should have at least 1 item"),
        ("ablation.sn_layers", [1, 7, 8, 9], "ablation.sn_layers: expected 0 among the depths"),
        ("ablation.sn_layers", [], "ablation.sn_layers: list should have at least 1 item"),
        ("data.splits.train", ["VOC2012"], "data.splits.train: expected <set>/<list>"),
        ("data.id", [{"path": "x", "embedded": "digits"}], "data.id.0: expected exactly one of"),
        ("data.id", [{"url": ["http://x/y.tar"]}], "data.id.0: a url needs its sha256"),
        ("data.id", [{"pth": "x"}], r"unknown parameter data.id.0.pth: did you mean path\?"),
        ("data.ood", {"id": {"path": "x"}}, "data.ood: an OOD set cannot be called 'id'"),
        ("data.ood", {"a/b": {"path": "x"}}, "data.ood.a/b"),
        ("data.ood", {"map": {"path": "x"}}, "data.ood: an OOD set cannot be called 'map'"),
        ("data.id", [{"path": "/x"}], "data.id.0: expected path inside data.folder; got '/x'"),
        ("data.id", [{"path": "x/../../y"}], "data.id.0: expected path inside data.folder"),
        ("model.weights", "/w.pth", "model.weights: expected a name or a file inside data.folder"),
        ("data.id", TWO_ARCHIVES, "data: two archives would both be data/raw/images.tar"),
        ("data.splits.train", [], r"data.splits.train: expected lists of images, .*got \[\]"),
        ("data.splits.train", 1.5, "data.splits.train: expected lists of images, or a share .*1.5"),
        ("data.splits.train", 0.7, "data.splits: expected three lists, or three shares whose sum"),
        ("data.splits", {"train": 0.7, "val": 0.2, "test": 0.2}, "three shares whose sum"),
        ("data.group_pattern", "(a", r"data.group_pattern: expected a regular expression; .*'\(a'"),
        ("data.label_meanings", {"none": "no"}, "data.label_meanings.none: input should"),
        ("data.ood", {"a": {"path": "x", "labels": "y.csv"}}, "data.ood: labels names the table"),
        ("train.loss", "focal", "train.loss: input should be 'bce', 'asymmetric' or 'logit_norm'"),
        (
            "train.outliers",
            "textures",
            "train.outliers: input should be 'pseudo_ood' or",
        ),
        ("train.outliers", "auxiliary", "train.outliers: auxiliary needs images, data.outliers"),
        ("data.outliers", {"pth": "x"}, r"unknown parameter data.outliers.pth: did you mean path"),
        ("data.outliers", {"path": "x", "distance": "near"}, "data: outliers: expected neither"),
        (
            "data.outliers",
            {"embedded": "textures"},
            "embedded textures is data.ood.textures's",
        ),
        ("data.outliers", {"embedded": "digits"}, "data: outliers: embedded digits is data.id's"),
        ("data.max_bad_share", 1.5, "data.max_bad_share: input should be less than or equal to 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(tmp_path, name, value, message):
    with pytest.raises(SnojoeError, match=message):
        load(tmp_path, set_to(name, value))


def test_a_section_that_is_gone_says_so(tmp_path):
    with pytest.raises(SnojoeError, match="score is gone: nothing is resampled any more"):
        load(tmp_path, set_to("score", {"resamples": 2000}))


@pytest.mark.parametrize("arch", LEAST_SIZE)
def test_the_least_image_of_a_trunk_is_known(tmp_path, arch):
    def change(tree, size=LEAST_SIZE[arch]):
        tree["model"]["arch"], tree["data"]["image_size"] = arch, size

    assert load(tmp_path, change).data.image_size == LEAST_SIZE[arch]
    with pytest.raises(SnojoeError, match=r"data\.image_size: .* (least|equal to) \d+"):
        load(tmp_path, lambda tree: change(tree, LEAST_SIZE[arch] - 1))


def test_a_missing_parameter_is_named(tmp_path):
    with pytest.raises(SnojoeError, match=r"params\.yaml: missing parameter train\.epochs"):
        load(tmp_path, lambda tree: tree["train"].pop("epochs"))


def test_all_mistakes_are_listed_at_once(tmp_path):
    def change(tree):
        tree["sn_layers"] = "eleven"
        tree["train"]["lr"] = -1.0

    with pytest.raises(SnojoeError, match=r"(?s)sn_layers.*train\.lr"):
        load(tmp_path, change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- a", "expected parameters by name; got list"),
        ("", "NoneType"),
        ("a: 1\na: 2", "a is there twice"),
        ("[" * 3000, "too deeply nested"),
        ("a: " + "9" * 6000, "not valid YAML"),
        ("a: 2020-99-99", "not valid YAML"),
    ],
)
def test_what_is_no_parameter_file_is_named(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SnojoeError, match=message):
        load_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SnojoeError, match=r"params\.yaml: no such file"):
        load_params(tmp_path / "params.yaml")
