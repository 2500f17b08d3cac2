import numpy as np
import pytest

from snojoe.detectors.outputs import LinearHead, ModelOutputs


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4, 2), (4,), (4, 5)], r"outputs must be 2-d arrays.*'features': \(4,\)"),
        ([(4, 2), (3, 6), (4, 5)], r"one row per image.*'features': \(3, 6\)"),
        ([(4, 2), (4, 6), (4, 5), (4, 3)], r"labels must have the shape of logits"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        ModelOutputs(*map(np.zeros, shapes))


def test_head_computes_logits_in_float64():
    head = LinearHead(np.float32([[1, 2], [0, 1]]), np.float32([1e-3, 0]))
    logits = head.logits(np.float32([[1e8, 1]]))
    assert logits.dtype == np.float64
    assert logits.tolist() == [[1e8 + 2 + np.float64(np.float32(1e-3)), 1.0]]


def test_head_with_a_bias_that_does_not_fit():
    with pytest.raises(ValueError, match=r"got shapes \(2, 3\) and \(3,\)"):
        LinearHead(np.zeros((2, 3)), np.zeros(3))
