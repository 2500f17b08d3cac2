import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image
from report_files import LABELS, make_experiment

from snojoe.detectors.joint_energy import joint_energy
from snojoe.results.report.pictures import picture_sets, thumbnail


@pytest.fixture
def experiment(tmp_path):
    return make_experiment(tmp_path)


@pytest.fixture
def sets(experiment):
    return picture_sets(experiment.experiment, LABELS, 9)


def energies(experiment, name):
    return joint_energy(experiment.experiment.outputs(9, 0, name).logits)


def opened(uri):
    header, content = uri.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert header == f"data:{Image.MIME[image.format]};base64"
    return image


def test_wrong_borderline_and_clearest_of_each_ood_set(experiment, sets):
    assert [each.name for each in sets] == ["a", "texture", "In-distribution test images"]
    energy = np.sort(energies(experiment, "a"))
    wrong, borderline, clearest = ([p.energy for p in g.pictures] for g in sets[0].galleries)
    assert wrong == energy[::-1][: len(wrong)].tolist()
    assert clearest == energy[: len(clearest)].tolist()
    distance = np.abs(np.array(borderline) - 2.0)
    assert distance.tolist() == np.sort(np.abs(energy - 2.0))[: len(borderline)].tolist()


def test_a_picture_is_the_image_of_its_energy_and_name(experiment, sets):
    energy = energies(experiment, "a")
    for picture in itertools.chain(*(gallery.pictures for gallery in sets[0].galleries)):
        row = int(np.argmin(np.abs(energy - picture.energy)))
        assert picture.name == f'"><i>/{row}.jpg'
        assert opened(picture.src).getpixel((0, 0)) == (row, row, row)
        assert picture.accepted == (picture.energy >= 2.0)


def test_three_labels_by_their_own_probabilities(experiment, sets):
    picture = sets[0].galleries[0].pictures[0]
    logits = experiment.experiment.outputs(9, 0, "a").logits
    (best,) = (row for row in logits if np.isclose(joint_energy(row[None]), picture.energy))
    expected = sorted(1 / (1 + np.exp(-best)), reverse=True)
    assert [p for _, p in picture.labels] == pytest.approx(expected)
    assert picture.labels[0][0] == LABELS[int(np.argmax(best))]
    assert picture.annotated == []


def test_id_images_below_the_threshold_with_their_true_labels(experiment, sets):
    energy = joint_energy(experiment.experiment.outputs(9, 0, "test").logits)
    (gallery,) = sets[-1].galleries
    expected = np.sort(energy[energy < 2.0])
    assert expected.size
    assert [p.energy for p in gallery.pictures] == expected[:12].tolist()
    assert f"{expected.size} of 12 images" in gallery.note
    first = int(np.argmin(energy))
    assert gallery.pictures[0].annotated == [LABELS[first % 3]]


def test_small_images_stay_exact_and_large_ones_become_small():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(opened(thumbnail(small))), small)
    large = thumbnail(rng.integers(0, 256, (448, 448, 3), dtype=np.uint8))
    assert opened(large).size == (160, 160)
    assert len(large) < 25_000
