"""Which label stands for “not read”? −100, as everywhere in the field; 0 is a piece like any other."""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.data import masking
from mini_bert.ops import cross_entropy
from mini_bert.ops.cross_entropy import mlm_cross_entropy

LOGITS = np.array([[[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]]])


def surprise(row: list[float], target: int) -> float:
    return float(np.log(np.exp(row).sum()) - row[target])


def test_mlm_loss_reads_label_0() -> None:
    loss, dlogits = mlm_cross_entropy(LOGITS, np.array([[0, 0, 1]]))
    expected = [surprise(row, target) for row, target in zip(LOGITS[0].tolist(), (0, 0, 1), strict=True)]
    assert loss == pytest.approx(sum(expected) / 3, rel=1e-14)
    assert np.all(np.any(dlogits != 0, axis=-1))


def test_mlm_loss_does_not_read_label_minus_100() -> None:
    loss, dlogits = mlm_cross_entropy(LOGITS, np.array([[-100, 0, -100]]))
    assert loss == pytest.approx(surprise([0.0, 1.0], 0), rel=1e-14)
    assert not dlogits[0, [0, 2]].any()
    assert dlogits[0, 1].all()


def test_masking_and_loss_mean_the_same_label() -> None:
    assert masking.IGNORED == cross_entropy.IGNORED == -100
