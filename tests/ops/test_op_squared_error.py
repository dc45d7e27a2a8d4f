"""The squared error by hand; slopes and oracle are in the common suite."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.ops import squared_error
from mini_bert.ops.contract import Cost


def test_by_hand() -> None:
    loss, saved = squared_error.forward(np.array([[1.0], [3.0]]), targets=np.array([2.0, 5.0]))
    assert float(loss) == 5.0
    assert squared_error.backward(np.asarray(3.0), saved)[0].tolist() == [[-6.0], [-12.0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_targets_of_another_kind_change_no_dtype(dtype: type) -> None:
    loss, saved = squared_error.forward(np.ones((2, 1), dtype), targets=np.array([1, 3]))
    assert (loss.dtype, squared_error.backward(np.asarray(1, dtype), saved)[0].dtype) == (dtype, dtype)


def test_at_the_mean_all_rows_together_pull_nowhere() -> None:
    targets = np.random.default_rng(0).uniform(0, 5, 50)
    _, saved = squared_error.forward(np.full((50, 1), targets.mean()), targets=targets)
    assert squared_error.backward(np.asarray(1.0), saved)[0].sum() == pytest.approx(0, abs=1e-12)


def test_no_rows_and_cost() -> None:
    loss, saved = squared_error.forward(np.zeros((0, 1)), targets=np.zeros(0))
    assert (float(loss), squared_error.backward(np.asarray(1.0), saved)[0].shape) == (0.0, (0, 1))
    assert squared_error.cost(7) == Cost(21, 7, 28)
