"""Which classes of OOD sets are in-distribution."""

import tarfile
from pathlib import Path

import pytest
import yaml
from committed import committed
from conftest import jpeg
from test_prepare import data, run

from snojoe.data.class_names import COCO, NUS_WIDE, VOC
from snojoe.data.overlap import WORDNET_ID, describe, known_classes, read_known
from snojoe.params import Params
from snojoe.results.markdown import known_note

DTD = (
    *("banded", "blotchy", "braided", "bubbly", "bumpy", "chequered", "cobwebbed", "cracked"),
    *("crosshatched", "crystalline", "dotted", "fibrous", "flecked", "freckled", "frilly", "gauzy"),
    *("grid", "grooved", "honeycombed", "interlaced", "knitted", "lacelike", "lined", "marbled"),
    *("matted", "meshed", "paisley", "perforated", "pitted", "pleated", "polka-dotted", "porous"),
    *("potholed", "scaly", "smeared", "spiralled", "sprinkled", "stained", "stratified", "striped"),
    *("studded", "swirly", "veined", "waffled", "woven", "wrinkled", "zigzagged"),
)


def known(names, classes, same=None):
    found = known_classes([f"set/{name}/1.jpg" for name in names], classes, same)
    return {each.name: each.known_as for each in found}


def test_it_is_said_before_an_image_is_decoded_and_stands_in_the_report(tmp_path, lines):
    said, say = lines
    more = {"police dogs/1.jpg": jpeg(7), "settee/2.jpg": jpeg(8), "settee/3.jpg": jpeg(9)}
    target = run(tmp_path, data(tmp_path, more=more, same_class={"person": ["settee"]}), say)
    expected = "police dogs is dog, settee is person; 3 images"
    note = f"ood/other: the in-distribution set seems to know {expected}"
    first = next(i for i, line in enumerate(said) if line.startswith(note))
    assert first < next(i for i, line in enumerate(said) if line.startswith("train: "))
    known = read_known(target)
    assert describe(known["other"]) == expected
    assert f"Not all of other is out-of-distribution: {expected}." in known_note(known)


@pytest.mark.parametrize(("name", "own"), [
    ("dog", "dog"), ("Dogs", "dog"), ("police_dog", "dog"), ("guideDog", "dog"), ("buses", "bus"),
    ("003.horse", "horse"), ("airplane", "aeroplane"), ("television", "tvmonitor"),
    ("tv_monitor", "tvmonitor"), ("dining-table", "diningtable"), ("couch", "sofa"),
    ("Potted Plants", "pottedplant"), ("motor_bike", "motorbike"), ("dog_sled", None),
    ("cart", None), ("catfish", None), ("bass", None), ("", None),
])  # fmt: skip
def test_a_class_is_known_by_the_end_of_its_name(name, own):
    assert known([name], VOC) == ({name: own} if own else {})


def test_published_sets_have_other_names_for_one_class():
    assert known(VOC, COCO).keys() == {*VOC}
    assert {"cars", "horses", "boats", "plane"} <= known(NUS_WIDE, VOC).keys()
    assert "flowers" not in known(NUS_WIDE, VOC)


def test_the_papers_ood_sets_have_nothing_of_voc():
    params = Params.model_validate(yaml.safe_load(committed("params/paper.yaml")))
    (ids,) = [source.classes for source in params.data.ood.values() if source.classes]
    assert len(ids) == 20
    assert all(map(WORDNET_ID.fullmatch, ids))
    assert known(ids, VOC) == {}
    assert known(ids, ["bats", "cherry tree"]) == {
        "n02139199": "bats", "n12641413": "cherry tree",
    }  # fmt: skip
    assert len(DTD) == 47
    assert known(DTD, VOC) == {}


def test_a_wordnet_id_is_known_by_each_of_its_names():
    pytest.importorskip("timm", reason="the extra 'timm' is not installed")
    paths = ["n02106662/a.jpg", "n02106662_german_shepherd/b.jpg", "n00000001/c.jpg"]
    found = known_classes(paths, VOC)
    assert [(each.name, each.known_as, each.images) for each in found] == [
        ("n02106662", "dog", 1), ("n02106662_german_shepherd", "dog", 1),
    ]  # fmt: skip
    assert describe(found[:1]) == "n02106662 (German shepherd dog) is dog; 1 image"


def test_a_user_names_what_no_list_knows():
    same = {"sofa": ["settee", "chaise longue"]}
    assert known(["red_settee", "chaise-longue", "stool"], VOC) == {}
    assert known(["red_settee", "chaise-longue", "stool"], VOC, same) == {
        "red_settee": "sofa", "chaise-longue": "sofa",
    }  # fmt: skip


def test_any_folder_may_be_the_class_and_images_at_the_root_have_none():
    assert known_classes(["a/dog/images/1.jpg"], ["dog"])[0].images == 1
    assert known_classes(["dog.jpg", "a/dog/1.jpg", "b/dog/2.jpg"], ["dog"])[0].images == 2


def test_real_archives():
    archive = Path(__file__).parents[3] / "shared/realdata/archives/dtd-subset.tar"
    if not archive.exists():
        pytest.skip(f"{archive} is not there: the check on real photographs needs it")
    with tarfile.open(archive) as tar:
        assert known_classes([n for n in tar.getnames() if n.endswith(".jpg")], VOC) == []
