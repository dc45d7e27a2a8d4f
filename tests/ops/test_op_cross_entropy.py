from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import InvalidInputError
from mini_bert.ops import cross_entropy
from mini_bert.ops.cross_entropy import IGNORED, mlm_cross_entropy

quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 7, size=(3, 5))
    targets[rng.random((3, 5)) < 0.6] = IGNORED
    targets[0, 0] = 2
    return rng.normal(size=(3, 5, 7)), targets


@quick
@given(st.integers(0, 999), st.floats(-1e3, 1e3))
def test_a_shift_of_the_logits_changes_nothing(seed: int, shift: float) -> None:
    logits, targets = np.random.default_rng(seed).normal(size=(4, 6)), np.array([0, 3, 3, 5])
    loss, saved = cross_entropy.forward(logits, targets=targets)
    assert loss >= 0
    assert cross_entropy.forward(logits + shift, targets=targets)[0] == pytest.approx(float(loss), rel=1e-11)
    (dlogits,) = cross_entropy.backward(np.asarray(1.0), saved)
    np.testing.assert_allclose(dlogits.sum(axis=-1), 0.0, atol=1e-15)  # and so the gradient is orthogonal to ones


def test_the_loss_of_a_uniform_guess_is_the_log_of_the_vocabulary() -> None:
    loss, saved = cross_entropy.forward(np.zeros((10, 8192)), targets=np.arange(10))
    assert float(loss) == pytest.approx(10 * math.log(8192), rel=1e-15)
    (dlogits,) = cross_entropy.backward(np.asarray(2.0), saved)
    assert dlogits[3, 3] == pytest.approx(2 * (1 / 8192 - 1), rel=1e-15)
    assert dlogits[3, 4] == pytest.approx(2 / 8192, rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_ten_thousand(dtype: type) -> None:
    logits = np.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4]], dtype)
    right, saved = cross_entropy.forward(logits, targets=np.array([0, 0]))
    assert float(right) == 0.0
    assert not cross_entropy.backward(np.asarray(1, dtype), saved)[0].any()
    wrong, saved = cross_entropy.forward(logits, targets=np.array([2, 1]))
    assert float(wrong) == 3e4
    assert cross_entropy.backward(np.asarray(1, dtype), saved)[0].tolist() == [[1, 0, -1], [1, -1, 0]]


def test_no_row_is_no_loss() -> None:
    loss, saved = cross_entropy.forward(np.zeros((0, 5)), targets=np.zeros(0, np.int64))
    assert float(loss) == 0.0
    assert cross_entropy.backward(np.asarray(1.0), saved)[0].shape == (0, 5)


@quick
@given(st.integers(0, 999))
def test_mlm_loss_is_the_mean_over_what_is_read(seed: int) -> None:
    logits, targets = drawn(seed)
    loss, dlogits = mlm_cross_entropy(logits, targets)
    surprises = []
    expected = np.zeros_like(logits)
    for b, t in zip(*np.nonzero(targets != IGNORED), strict=True):
        probs = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum()
        surprises.append(-math.log(probs[targets[b, t]]))
        expected[b, t] = probs
        expected[b, t, targets[b, t]] -= 1.0
    assert loss == pytest.approx(sum(surprises) / len(surprises), rel=1e-13)
    np.testing.assert_allclose(dlogits, expected / len(surprises), atol=1e-15)
    assert not dlogits[targets == IGNORED].any()


def test_everything_ignored_is_zero_with_zero_gradient() -> None:
    logits, targets = drawn()
    for arguments in ((np.full_like(targets, IGNORED),), (targets, np.zeros(targets.shape, bool))):
        loss, dlogits = mlm_cross_entropy(logits, *arguments)
        assert loss == 0.0
        assert dlogits.shape == logits.shape
        assert not dlogits.any()


def test_a_mask_says_what_is_read() -> None:
    logits, targets = drawn()
    everything = np.where(targets == IGNORED, 1, targets)
    mask = targets != IGNORED
    loss, dlogits = mlm_cross_entropy(logits, targets)
    for given_mask in (mask, mask.astype(np.int64), mask.astype(np.uint8), mask.tolist()):
        same_loss, same_dlogits = mlm_cross_entropy(logits, everything, given_mask)
        assert same_loss == loss
        np.testing.assert_array_equal(same_dlogits, dlogits)


def test_the_dtype_of_the_logits_is_that_of_the_gradient() -> None:
    logits, targets = drawn()
    loss, dlogits = mlm_cross_entropy(logits.astype(np.float32), targets.astype(np.int32))
    assert isinstance(loss, float)
    assert dlogits.dtype == np.float32


def test_inputs_stay_as_they_are() -> None:
    logits, targets = drawn()
    for array in (logits, targets):
        array.flags.writeable = False
    mlm_cross_entropy(logits, targets)


def test_one_row_needs_no_batch_axis() -> None:
    logits, targets = drawn()
    loss, dlogits = mlm_cross_entropy(logits[0], targets[0])
    same_loss, same_dlogits = mlm_cross_entropy(logits[:1], targets[:1])
    assert loss == same_loss
    np.testing.assert_array_equal(dlogits, same_dlogits[0])


LOGITS, TARGETS = drawn()
BAD = {
    "a target beyond the vocabulary": ((LOGITS, np.full((3, 5), 7)), r"target_ids: got 7 at a masked .* from 0 to 6"),
    "one of many targets beyond the vocabulary": (
        (LOGITS, np.where(np.arange(15) == 7, 7, np.arange(15) % 7).reshape(3, 5)),
        r"target_ids: got 7 at a masked position",
    ),
    "the first of several wrong targets is named": (
        (LOGITS, np.array([[0, 1, IGNORED, 6, 9], [0, -1, 8, 2, 3], [IGNORED, 0, -2, 0, 0]])),
        r"target_ids: got 9 at a masked position",
    ),
    "a negative target among others": (
        (LOGITS, np.where(np.arange(15) == 7, -3, np.arange(15) % 7).reshape(3, 5)),
        r"target_ids: got -3 at a masked position",
    ),
    "a negative target that is not -100": ((LOGITS, np.full((3, 5), -1)), r"target_ids: got -1 at a masked position"),
    "-100 where the mask reads": ((LOGITS, TARGETS, np.ones((3, 5), bool)), r"target_ids: got -100 .*mask_pos must be"),
    "targets of another shape": ((LOGITS, TARGETS[:2]), r"target_ids: got int64 \[2, 5\]; .*shape \[3, 5\]"),
    "targets that are no integers": ((LOGITS, TARGETS.astype(float)), r"target_ids: got float64"),
    "targets that are bool": ((LOGITS, TARGETS > 0), r"target_ids: got bool"),
    "logits without a vocabulary": ((LOGITS[0, 0], TARGETS), r"logits: got float64 \[7\]"),
    "logits that are integers": ((LOGITS.astype(int), TARGETS), r"logits: got int64"),
    "a mask of another shape": ((LOGITS, TARGETS, np.ones((3, 4), bool)), r"mask_pos: got bool \[3, 4\]"),
    "a mask of floats": ((LOGITS, TARGETS, np.ones((3, 5))), r"mask_pos: got float64"),
    "a mask with a single 2 in it": ((LOGITS, TARGETS, np.eye(3, 5, dtype=int) * 2), r"mask_pos: got int64"),
    "a mask of positions": ((LOGITS, TARGETS, np.full((3, 5), 4)), r"mask_pos: got int64"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named(arguments: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        mlm_cross_entropy(*arguments)
