"""``snojoe init``: what it sees, what it makes of that, and what it leaves alone."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from committed import committed
from conftest import annotation, coco_json, jpeg, voc_files, write_folder
from dvc.utils.hydra import apply_overrides

from snojoe.cli import main
from snojoe.params import Params, load_params
from snojoe.support.errors import SnojoeError
from snojoe_project import code, originals
from snojoe_project.choose import choose
from snojoe_project.code import check_project, write_code
from snojoe_project.dag import data_deps, is_code, project_dag
from snojoe_project.look import Look, choose_splits, look
from snojoe_project.parameters import project_params, put

ROOT = Path(__file__).parents[1]
SPLITS = {"train": 9, "val": 6, "test": 6}


def pets():
    """A table of cats and dogs, one of which is spelt otherwise, and what does not belong there."""
    rows = ["file,labels,split"]
    files = {"cover.psd": b"x", "._train0.jpg": b"x", "stray.jpg": jpeg()}
    for split, count in SPLITS.items():
        for i in range(count):
            files[f"{split}{i}.jpg"] = jpeg(i)
            rows.append(f"{split}{i}.jpg,{('cat', 'dog;cat', 'Cat')[i % 3]},{split}")
    return files | {"labels.csv": "\n".join(rows).encode()}


def others(count=4):
    return {f"a/{i}.jpg": jpeg(100 + i) for i in range(count)}


@pytest.fixture(autouse=True)
def who(monkeypatch, tmp_path):
    """Git knows the author, and nothing of the repository around."""
    for whom in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{whom}_NAME", "test")
        monkeypatch.setenv(f"GIT_{whom}_EMAIL", "test@example.org")
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project beside its data; what was said."""
    folder = tmp_path_factory.mktemp("photos of mine")
    write_folder(folder / "pets", pets())
    write_folder(folder / "other things", others())
    run = [sys.executable, "-c", "from snojoe.cli import main; raise SystemExit(main())", "init"]
    command = [*run, "project", "--id", "pets", "--ood", "other things"]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return folder / "project", done.stdout


def git(folder, *words):
    return subprocess.check_output(["git", *words], cwd=folder, text=True)


def test_it_says_what_is_there(made):
    _, said = made
    assert "pets: 22 images" in said
    assert "format: a table of labels" in said
    assert "train: 9 images, of pets/train" in said
    assert "classes: 3, with the number of their images" in said
    assert "\n  cat    6      4    4\n" in said
    assert "sizes: the shorter side has 30 to 30 pixels" in said
    assert said.rstrip().endswith("next: cd project && snojoe repro")


@pytest.mark.parametrize(
    "doubt",
    [
        "'Cat' and 'cat' are 2 classes: is one meant?",
        "train: few images to learn a class from: Cat (3), cat (6), dog (3)",
        "val: 6 images leave open by ± 17.4 points",
        "1 images (stray.jpg)",
        "1 .psd",
        "other things: 4 images: figures of so few are vague",
    ],
)
def test_it_names_what_is_doubtful(made, doubt):
    assert doubt in made[1]


def test_the_parameters_find_the_images_where_they_are(made):
    folder, _ = made
    data = load_params(folder / "params.yaml").data
    assert Path(data.folder) == folder.parent
    assert [source.path for source in data.id] == ["pets"]
    assert {name: source.path for name, source in data.ood.items()} == {
        "other_things": "other things"
    }
    assert data.splits.train == ["pets/train"]
    assert data.image_size == 32


def test_it_is_one_network_unless_more_are_asked_for(made):
    params = load_params(made[0] / "params.yaml")
    assert params.depths == [0]
    assert "One network, without spectral normalisation." in made[1]


def test_each_choice_has_its_reason_in_the_file(made):
    folder, said = made
    text = (folder / "params.yaml").read_text()
    for name in ("sn_layers", "arch", "epochs", "batch_size", "image_size"):
        before = text[: text.index(f"{name}:")].splitlines()[-2:]
        assert any(line.lstrip().startswith("#") for line in before), name
        assert f"{name} " in said


@pytest.mark.parametrize("setting", ["sn_layers=8", "train.epochs=3", "data.image_size=64"])
def test_dvc_changes_a_setting_and_nothing_else(made, tmp_path, setting):
    path = shutil.copy(made[0] / "params.yaml", tmp_path)
    before = Path(path).read_text().splitlines()
    apply_overrides(Path(path), [setting])
    after = Path(path).read_text().splitlines()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def with_depths(folder, depths):
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    return Params.model_validate(tree | {"ablation": {"sn_layers": depths}})


def test_the_dag_names_no_parameter_that_an_older_file_lacks(made):
    tree = yaml.safe_load((made[0] / "params.yaml").read_text())
    params = [Params.model_validate(tree)]
    del tree["data"]["outliers"]
    params.append(Params.model_validate(tree))
    now, older = (yaml.safe_load(project_dag(each))["stages"]["download"] for each in params)
    assert set(now["params"]) - set(older["params"]) == {"data.outliers"}
    assert now["deps"] == older["deps"]


@pytest.mark.parametrize("depths", [[0], [0, 9], [0, 7, 8, 9], [0, 5, 6, 7, 8, 9]])
def test_the_dag_is_that_of_this_repository(made, depths):
    """But for the code, the depths that were asked for, and what the user brings."""
    project = yaml.safe_load(project_dag(with_depths(made[0], depths)))
    if len(depths) == 1:
        assert yaml.safe_load((made[0] / "dvc.yaml").read_text()) == project
    ours = of_depths(yaml.safe_load(committed("dvc.yaml")), len(depths))
    assert (ours == yaml.safe_load(committed("dvc.yaml"))) == (len(depths) == 4)
    if len(depths) == 1:
        del ours["stages"]["ablate"]
        ours["plots"] = [each for each in ours["plots"] if "ablation.csv" not in str(each)]
        assert len(ours["plots"]) == 4
    assert project["plots"] == ours["plots"]
    stage = project["stages"].pop("code")
    assert stage["always_changed"]
    assert list(project["stages"]) == list(ours["stages"])
    for name, mine in project["stages"].items():
        expected = ours["stages"][name]
        assert mine.pop("cmd") == f"python -m snojoe_project {name}"
        assert expected.pop("cmd") == f"python stages/{name}.py"
        kept = [dep for dep in expected.pop("deps") if not is_code(dep)]
        brought = [
            "${data.folder}/${data.id[0].path}",
            "${data.folder}/${data.ood.other_things.path}",
        ]
        at = kept.index("${data.folder}") if "${data.folder}" in kept else len(kept)
        kept[at : at + 1] = brought if at < len(kept) else []
        assert mine.pop("deps") == [f"code/{name}", *kept]
        assert mine == expected


def of_depths(tree, count):
    """A tree of ``dvc.yaml`` with so many depths in each list of those of the ablation."""
    if isinstance(tree, dict):
        return {name: of_depths(value, count) for name, value in tree.items()}
    if not isinstance(tree, list):
        return tree
    found = []
    for item in tree:
        if "ablation.sn_layers[" not in str(item):
            found.append(of_depths(item, count))
        elif "[0]" in item:
            found += [item.replace("[0]", f"[{i}]") for i in range(count)]
    return found


def test_it_is_a_project_of_git_and_dvc_and_the_images_are_as_they_were(made):
    folder, _ = made
    assert git(folder, "status", "--porcelain") == ""
    assert "dvc.yaml" in git(folder, "ls-files")
    assert (folder / ".dvc/plots/sets.json").exists()
    assert "analytics = false" in (folder / ".dvc/config").read_text()
    there = {
        p.relative_to(folder.parent / "pets").as_posix()
        for p in (folder.parent / "pets").rglob("*")
    }
    assert there == pets().keys()


def test_own_files_are_replaced_by_force_alone(made, capsys):
    folder, _ = made
    before = (folder / "params.yaml").read_text()
    command = ["init", str(folder), "--id", str(folder.parent / "pets")]
    (folder / "params.yaml").write_text("mine")
    (folder / ".gitignore").write_text("mine.txt\n")
    assert main(command) == 2
    assert "dvc.yaml and params.yaml there already: nothing was changed; --force" in (
        capsys.readouterr().err
    )
    assert (folder / "params.yaml").read_text() == "mine"
    assert main([*command, "--ood", str(folder.parent / "other things"), "--force"]) == 0
    assert (folder / "params.yaml").read_text() == before
    ignored = (folder / ".gitignore").read_text()
    assert ignored.startswith("mine.txt\n")
    assert "/models/*" in ignored
    git(folder, "checkout", "--quiet", "HEAD", ".gitignore")


def test_a_voc_set_inside_of_the_project_is_named_from_there_and_textures_stand_in(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    images = {f"{split}{i}": [("cat", False)] for split, n in SPLITS.items() for i in range(n)}
    lists = {s: [i for i in images if i.startswith(s)] for s in ("train", "val")}
    write_folder(tmp_path / "voc", voc_files(images, lists, name="Mine"))
    (tmp_path / "voc/VOCdevkit/Mine/Annotations/val0.xml").write_bytes(annotation([("cow", False)]))
    assert main(["init", "--id", "voc", "--weights", "none"]) in (0, 2)
    captured = capsys.readouterr()
    if captured.err:  # a class that only val has
        assert "class 'cow' is not in the class list" in captured.err
        (tmp_path / "voc/VOCdevkit/Mine/Annotations/val0.xml").write_bytes(
            annotation([("cat", False)])
        )
        assert main(["init", "--id", "voc", "--weights", "none"]) == 0
        captured = capsys.readouterr()
    assert "PASCAL-VOC" in captured.out
    assert "no test list: val is the test set, too" in captured.out
    assert "no --ood: the tables need images that show something else" in captured.out
    assert "dvc add voc && git add ." in captured.out
    params = load_params()
    assert (params.data.folder, params.data.id[0].path) == (".", "voc")
    assert params.data.ood["textures"].embedded == "textures"
    assert params.data.test_is_val
    check_project(Path())


@pytest.mark.parametrize("where", [".", "project"])
def test_a_project_in_its_data_is_refused_before_anything_is_written(tmp_path, where, capsys):
    write_folder(tmp_path / "pets", pets())
    assert main(["init", str(tmp_path / "pets" / where), "--id", str(tmp_path / "pets")]) == 2
    assert "which would then change with each result" in capsys.readouterr().err
    assert {p.name for p in tmp_path.rglob("*")} == {"pets", *pets()}


def test_this_repository_is_no_project(capsys):
    assert main(["init", str(ROOT), "--id", str(ROOT / "plots"), "--force"]) == 2
    assert "the program's own folder" in capsys.readouterr().err


def test_what_dvc_would_not_see_is_named(made, tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(made[0] / name, tmp_path)
    check_project(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(put(path.read_text(), "data.ood", {"birds": {"path": "birds"}}))
    expected = (
        r'dvc.yaml: add "\$\{data.folder\}/\$\{data.ood.birds.path\}" to the deps of download'
    )
    with pytest.raises(SnojoeError, match=expected):
        check_project(tmp_path)


def test_the_dag_is_written_anew_for_another_set_or_depth(made, tmp_path, monkeypatch, capsys):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(made[0] / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = Path("dvc.yaml").read_text()
    main(["dag"])
    assert Path("dvc.yaml").read_text() == before
    text = put(Path("params.yaml").read_text(), "data.ood", {"birds": {"path": "birds"}})
    Path("params.yaml").write_text(put(text, "ablation.sn_layers", [0, 5]))
    expected = r"sn_layers: expected as many depths as dvc.yaml has, 1; got \[0, 5\]: `snojoe dag`"
    with pytest.raises(SnojoeError, match=expected):
        check_project(Path())
    assert main(["repro"]) == 2
    assert "`snojoe dag` writes it anew" in capsys.readouterr().err
    assert main(["dag"]) == 0
    check_project(Path())
    assert "ablate" in yaml.safe_load(Path("dvc.yaml").read_text())["stages"]


def test_of_this_repository_the_dag_is_not_rewritten(tmp_path, monkeypatch, capsys):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text(committed(name))
    monkeypatch.chdir(tmp_path)
    assert main(["dag"]) == 2
    assert "dvc.yaml: not made by `snojoe init`" in capsys.readouterr().err
    assert Path("dvc.yaml").read_text() == committed("dvc.yaml")


def test_the_code_of_a_network_of_ones_own_is_a_dependency(made):
    tree = yaml.safe_load((made[0] / "params.yaml").read_text())
    tree |= {"sn_layers": 0, "ablation": {"sn_layers": [0]}}
    own = {"network": "net.py:make", "head": "fc"}
    tree["model"] = {"arch": "own", "weights": None, "own": own}
    tree["train"]["epochs"] = 0
    params = Params.model_validate(tree)
    assert "${data.folder}/net.py" in data_deps(params, "download")
    assert not [dep for dep in data_deps(params, "preprocess") if "net.py" in dep]


def test_the_copy_of_a_queued_experiment_says_what_it_does_not_see(tmp_path, monkeypatch, made):
    root, copy = tmp_path / "root", tmp_path / "copy"
    write_folder(root / "mine/pets", {"a.jpg": jpeg()})
    copy.mkdir()
    text = put((made[0] / "params.yaml").read_text(), "data.folder", "mine")
    for folder in (root, copy):
        (folder / "params.yaml").write_text(text)
        shutil.copy(made[0] / "dvc.yaml", folder)
    monkeypatch.setenv("DVC_ROOT", str(root))
    check_project(root)
    with pytest.raises(
        SnojoeError, match=r"only what git or DVC tracks\. There: dvc add mine/pets"
    ):
        check_project(copy)


@pytest.mark.parametrize(
    ("edited", "seen", "unseen"),
    [
        ("snojoe/results/tables.py", "score", "train"),
        ("snojoe/training/loop.py", "train", "score"),
        ("snojoe/data/voc.py", "preprocess", "train"),
    ],
)
def test_an_edit_of_the_package_changes_the_code_of_what_can_run_it(
    tmp_path, monkeypatch, edited, seen, unseen
):
    packages = tmp_path / "site"
    shutil.copytree(ROOT / "src", packages, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGES", packages)
    write_code(tmp_path)
    before = {path.name: path.read_text() for path in (tmp_path / "code").iterdir()}
    assert before.keys() == yaml.safe_load(committed("dvc.yaml"))["stages"].keys()
    assert edited in before[seen]
    (packages / edited).write_text("# another\n")
    write_code(tmp_path)
    after = {path.name: path.read_text() for path in (tmp_path / "code").iterdir()}
    assert after[seen] != before[seen]
    assert after[unseen] == before[unseen]


def test_a_wheel_holds_what_projects_are_made_of(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = (
        "from snojoe_project.originals import original, read_original; import sys;"
        "print(all(original(name).exists() for name in sys.argv[1:]), original('stages'))"
    )
    names = ["dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/plots"]
    scripts = [p.relative_to(ROOT).as_posix() for p in (ROOT / "stages").glob("*.py")]
    done = subprocess.run(
        [sys.executable, "-c", script, *names, *scripts],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": ""},
        text=True,
        capture_output=True,
    )
    assert done.stdout == f"True {site / 'snojoe_project/originals/stages'}\n", done.stderr


def test_a_checkout_reads_the_files_where_they_are_written():
    assert originals.original("dvc.yaml") == ROOT / "dvc.yaml"


@pytest.mark.parametrize(
    ("edge", "weights", "gpu", "arch", "start", "size"),
    [
        (480, None, False, "mobilenet_v2", "IMAGENET1K_V1", 224),
        (480, None, True, "resnet50", "IMAGENET1K_V1", 224),
        (100, "none", True, "resnet10", None, 96),
        (28, None, True, "resnet10", None, 32),
        (480, "w/resnet18-5c10.pth", False, "resnet18", "w/resnet18-5c10.pth", 224),
    ],
)
def test_network_and_size_fit_the_images_and_the_machine(
    tmp_path, edge, weights, gpu, arch, start, size
):
    found = Look({}, ["cat"], train=500, test=100, edge=edge)
    (tmp_path / "params.yaml").write_text(project_params(choose(found, weights, gpu=gpu)))
    params = load_params(tmp_path / "params.yaml")
    assert (params.model.arch, params.model.weights) == (arch, start)
    assert params.data.image_size == size
    assert params.train.trunk_lr_factor == (0 if start else 1)


def test_weights_of_timms_bring_its_preprocessing(tmp_path):
    pytest.importorskip("timm", reason="the extra 'timm' is not installed")
    found = Look({}, ["cat"], train=500, test=100, edge=480)
    choices = choose(found, "w/tf_efficientnet_lite0-in1k.safetensors", gpu=False)
    (tmp_path / "params.yaml").write_text(project_params(choices))
    params = load_params(tmp_path / "params.yaml")
    assert params.model.arch == params.data.preprocessing == "timm/tf_efficientnet_lite0"
    with pytest.raises(SnojoeError, match="expected a name that begins with that of its network"):
        choose(found, "w/my-net.pth", gpu=False)


def test_a_trunk_that_is_normalised_learns(tmp_path):
    found = Look({}, ["cat"], train=500, test=100, edge=480)
    choices = {each.name: each.value for each in choose(found, None, [], gpu=False)}
    assert choices["train.trunk_lr_factor"] == 0.1


@pytest.mark.parametrize(
    ("asked", "main", "depths"),
    [
        (None, 0, [0]),
        ([0], 0, [0]),
        ([], 9, [0, 9]),
        ([9], 9, [0, 9]),
        ([8, 7, 8], 8, [0, 7, 8]),
    ],
)
def test_spectral_normalisation_is_there_where_it_is_asked_for(tmp_path, asked, main, depths):
    found = Look({}, ["cat"], train=500, test=100, edge=28)
    (tmp_path / "params.yaml").write_text(project_params(choose(found, None, asked, gpu=False)))
    params = load_params(tmp_path / "params.yaml")
    assert (params.sn_layers, params.ablation.sn_layers) == (main, depths)
    assert params.depths == depths


def test_a_depth_that_the_network_has_not_is_refused(capsys):
    with pytest.raises(SnojoeError, match="--sn-layers 99: expected 0 to 10: `snojoe layers resn"):
        choose(Look({}, ["cat"], 1, 1, 28), None, [7, 99], gpu=False)


def test_weights_of_an_unknown_network_are_refused():
    with pytest.raises(SnojoeError, match="expected a name that begins with that of its network"):
        choose(Look({}, ["cat"], 1, 1, 480), "weights.pth", gpu=False)


def test_lists_of_several_names_are_understood_and_joined():
    chosen, said = choose_splits(["a/train", "a/trainval", "a/valid", "b/trainval", "b/test"])
    assert chosen == {"train": ["a/train", "b/trainval"], "val": ["a/valid"], "test": ["b/test"]}
    assert said == []


def test_years_behind_the_names_of_lists_are_no_other_names():
    chosen, said = choose_splits(["coco/train2017", "coco/val2017", "test2014/test2014"])
    assert chosen == {
        "train": ["coco/train2017"], "val": ["coco/val2017"], "test": ["test2014/test2014"],
    }  # fmt: skip
    assert said == []


@pytest.mark.parametrize(
    ("labels", "doubt"),
    [
        (["Traffic_Light", "traffic light"], "'Traffic_Light' and 'traffic light' are 2 classes"),
        (["clear primary", "clear road", "clear water"], "several, joined by blanks"),
    ],
)
def test_labels_that_may_be_meant_otherwise_are_doubtful(tmp_path, labels, doubt):
    rows = [f"{i}.jpg,{labels[i % len(labels)]}" for i in range(40)]
    files = {f"{i}.jpg": jpeg(i) for i in range(40)}
    files["labels.csv"] = "\n".join(["file,labels", *rows]).encode()
    found = look([write_folder(tmp_path / "pets", files)], [], tmp_path)
    assert any(doubt in each for each in found.doubts)


def test_images_of_a_labelling_tool_are_described(tmp_path):
    files = {f"{i}.jpg": jpeg(i) for i in range(40)} | {"classes.txt": b"dog\n"}
    files |= {f"{i}.xml": annotation([("dog", False)]) for i in range(1, 40)}
    found = look([write_folder(tmp_path / "pets", files)], [], tmp_path)
    assert "format: images with XML" in found.lines
    assert any("classes.txt" in each for each in found.doubts)
    assert any(
        "1, such as" in each and "images without annotation" in each for each in found.doubts
    )


def test_an_ood_folder_without_images_says_what_is_there(tmp_path):
    pets_folder = write_folder(tmp_path / "pets", pets())
    with pytest.raises(SnojoeError, match=r"empty: holds no image.*1 \.psd files"):
        look([pets_folder], [write_folder(tmp_path / "empty", {"z.psd": b"x"})], tmp_path)


def test_where_there_are_no_lists_the_images_are_split_by_shares():
    chosen, (said,) = choose_splits(["a/all"])
    assert chosen == {"train": 0.7, "val": 0.15, "test": 0.15}
    assert "every image goes to one split by its name" in said


def test_an_export_without_splits_whose_label_may_mean_none_becomes_a_project(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = [f"{i}.jpg,{('cat', 'dog', 'none')[i % 3]}" for i in range(60)]
    files = {f"{i}.jpg": jpeg(i) for i in range(60)}
    write_folder(
        tmp_path / "pets", files | {"export.csv": "\n".join(["file,labels", *rows]).encode()}
    )
    command = ["init", "mine", "--id", "pets/export.csv"]
    assert main(command) == 2
    assert "does the label 'none' (20 images) say" in capsys.readouterr().err
    assert main([*command, "--meaning", "none=negative"]) == 0
    data = load_params("mine/params.yaml").data
    assert (data.id[0].path, data.id[0].labels) == ("pets", "export.csv")
    assert data.splits.by_shares
    assert data.label_meanings == {"none": "negative"}


def test_coco_files_become_a_project(tmp_path, monkeypatch, capsys):
    """Splits by the names of files and folders, the test split without labels."""
    monkeypatch.chdir(tmp_path)
    files = {
        "annotations/instances_train2014.json": coco_json({1: "1.jpg"}, [(1, 7), (1, 1)]),
        "annotations/instances_val2014.json": coco_json({2: "2.jpg"}, [(2, 1)]),
        **{f"{split}2014/{i}.jpg": jpeg(i) for i, split in enumerate(SPLITS, 1)},
    }
    write_folder(tmp_path / "pets", files)
    write_folder(tmp_path / "other", others())
    command = ["init", "project", "--id", "pets", "--ood", "other", "--weights", "none"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "format: COCO JSON" in said
    assert "\n  zebra  1      0    -\n  cat    1      1    -\n" in said
    splits = load_params(tmp_path / "project/params.yaml").data.splits.model_dump()
    assert splits == {split: [f"pets/{split}2014"] for split in ("train", "val", "test")}
