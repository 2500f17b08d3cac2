import numpy as np

from snojoe.data.stable import calibration_part, name_key, number

IDS = [f"VOC/{i:05d}.jpg" for i in range(2000)]
ALONE = [()] * len(IDS)


def test_half_of_val_is_for_calibration():
    assert calibration_part(IDS, ALONE).mean() == 0.5  # here; a function of the names alone


def test_new_images_another_order_and_another_suffix_move_none():
    before = dict(zip(IDS[:1000], calibration_part(IDS[:1000], ALONE[:1000]), strict=True))
    after = dict(zip(IDS[::-1], calibration_part(IDS[::-1], ALONE), strict=True))
    assert all(after[name] == part for name, part in before.items())
    other = calibration_part([i.replace("VOC/", "x/").replace(".jpg", ".png") for i in IDS], ALONE)
    np.testing.assert_array_equal(other, calibration_part(IDS, ALONE))


def test_images_with_a_group_in_common_are_in_one_part():
    groups = [(f"patient {i // 10}",) for i in range(len(IDS))]
    parts = calibration_part(IDS, groups).reshape(-1, 10)
    assert (parts == parts[:, :1]).all()
    assert 0.3 < parts.mean() < 0.7
    # A chain in which each image shares a group with the next would be all of val.
    chain = [(f"g{i}", f"g{i + 1}") for i in range(len(IDS))]
    assert 0.4 < calibration_part(IDS, chain).mean() < 0.6


def test_what_shares_put_into_val_is_halved_too():
    """The part must not follow from the number by which an image came into val."""
    numbers = np.array([number(name_key(image_id)) for image_id in IDS])
    val = (numbers >= 0.7) & (numbers < 0.85)
    assert 0.4 < calibration_part(IDS, ALONE)[val].mean() < 0.6
