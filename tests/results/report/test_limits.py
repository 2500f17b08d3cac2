import pytest
from report_files import LABELS, SETS, make_experiment, outputs, shards

from snojoe.data.prepared import PreparedSet, PreparedSets, read_prepared_sets
from snojoe.data.shards import ShardRow, write_shards
from snojoe.params import ArchiveSource
from snojoe.results.at_work import AtWork, ScoreAtWork, Share, at_work
from snojoe.results.report.limits import class_precisions, limits


@pytest.fixture
def made(tmp_path):
    return make_experiment(tmp_path)


def found(made, work=None, sets=None, data=None):
    sets = sets or read_prepared_sets(made.folders.prepared)
    work = work or at_work(made.experiment, 9)
    data = data or made.params.data
    return {
        limit.title: limit.text for limit in limits(made.experiment, 9, data, sets, LABELS, work)
    }


FEW_ALARMS, MANY_CAUGHT = Share(50, 1000), Share(500, 1000)


def large(alarms=FEW_ALARMS, caught=MANY_CAUGHT, calibration=2000):
    current = ScoreAtWork("joint_energy", None, alarms, dict.fromkeys(SETS, caught))
    return AtWork([], calibration, current, [])


def sets_with(positives=60, *, test_is_val=False, test=12):
    train = PreparedSet(images=99, positives=dict.fromkeys(LABELS, positives))
    ood = {name: PreparedSet(images=9) for name in SETS}
    return PreparedSets(
        id={"train": train, "test": PreparedSet(images=test)}, id_test_is_val=test_is_val, ood=ood
    )


def test_small_sets_say_how_little_they_say(made):
    texts = found(made)
    assert texts["val is too small for the accuracy that is asked for"].startswith(
        "The 39 images that calibrate the threshold leave open whether 0.6 or 13.5% of new images"
    )
    assert (
        "5,000 would say 4.4 to 5.6%"
        in texts["val is too small for the accuracy that is asked for"]
    )
    assert "between 0.2 and 38.5%" in texts["the test set is small"]
    assert "Of its 10 images between 12.2 and 73.8% may be caught." in texts["a is small"]


def test_a_weak_classifier_names_its_weakest_classes(made):
    precisions = class_precisions(made.experiment, 9)
    weakest = LABELS[int(precisions.argmin())]
    text = found(made)["the classifier is weak"]
    assert f"on val is {precisions.mean():.1f}%; the lowest are {weakest} " in text


def test_classes_with_few_images_are_named(made):
    text = found(made)["classes with few images to learn from"]
    assert text.startswith("<b>dog</b> (3): bring more")


def test_of_large_sets_and_a_good_classifier_there_is_nothing_to_say(made, tmp_path):
    for seed in (0, 1):
        outputs(tmp_path / f"val{seed}", 30, labels=True)
        folder = made.folders.outputs(9, seed, "val")
        labels = (tmp_path / f"val{seed}" / "labels.npy").read_bytes()
        (folder / "labels.npy").write_bytes(labels)
        (folder / "logits.npy").write_bytes(labels)  # which ranks perfectly
    assert found(made, large(), sets_with()) == {}


@pytest.mark.parametrize(
    ("work", "title"),
    [
        (large(calibration=18), "val is too small for any promise"),
        (large(calibration=200), "val is too small for the accuracy that is asked for"),
        (large(alarms=Share(5, 100)), "the test set is small"),
        (large(caught=Share(5, 60)), "texture is small"),
    ],
)
def test_each_size_has_its_own_limit(made, work, title):
    before = found(made, large(), sets_with())
    assert found(made, work, sets_with()).keys() - before.keys() >= {title}


def test_val_as_the_test_set_and_textures_as_ood_sets_are_named(made):
    texts = found(made, large(), sets_with(test_is_val=True))
    assert "there is no test set" in texts
    drawn = {"textures": ArchiveSource(embedded="textures")}
    mine = made.params.data.model_copy(update={"ood": drawn, "id": [ArchiveSource(path="x")]})
    assert "no image of what it shall refuse" in found(made, large(), sets_with(), mine)
    digits = made.params.data.model_copy(update={"ood": drawn})
    assert "no image of what it shall refuse" not in found(made, large(), sets_with(), digits)


def test_images_that_belong_together_are_counted(made):
    rows = [ShardRow(str(i), bytes(12), None, [str(i // 3)]) for i in range(12)]
    write_shards(made.folders.shards("test"), rows, split="test", content="pixels", image_size=2)
    assert (
        "the 12 may say no more than 4 independent ones"
        in found(made)["test images belong together"]
    )
    shards(made.folders.shards("test"), 12)
    assert "test images belong together" not in found(made)
