"""Is the calibration error that of the definition, and what chance alone would make of it?"""

from __future__ import annotations

import numpy as np
import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.calibration import calibration
from mini_bert.metrics.proportions import wilson_interval

RNG = np.random.default_rng(2)


def test_by_hand() -> None:
    """Bins {0.1, 0.3}, {0.5, 0.8}, {0.9, 1.0}: |0.5 − 0.2|, |0.5 − 0.65| and |1 − 0.95| of two answers each."""
    found = calibration([0.9, 0.1, 0.8, 0.5, 1.0, 0.3], [1, 0, 1, 0, 1, 1], bins=3)
    assert found.error == pytest.approx((0.3 + 0.15 + 0.05) / 3)
    assert [bin.n for bin in found.bins] == [2, 2, 2]
    np.testing.assert_allclose([bin.confidence for bin in found.bins], [0.2, 0.65, 0.95])
    np.testing.assert_allclose([bin.accuracy for bin in found.bins], [0.5, 0.5, 1.0])
    assert found.bins[0].interval == wilson_interval(1, 2)
    spread = [0.1 * 0.9 + 0.3 * 0.7, 0.25 + 0.8 * 0.2, 0.9 * 0.1]
    assert found.floor == pytest.approx(sum(np.sqrt(2 / np.pi * s) for s in spread) / 6)


def test_by_a_loop() -> None:
    c, h = RNG.random(503), RNG.random(503) < 0.4
    order = sorted(range(503), key=lambda i: c[i])
    total = 0.0
    for b in range(15):
        members = order[503 * b // 15 : 503 * (b + 1) // 15]
        total += abs(sum(float(h[i]) for i in members) - sum(c[i] for i in members)) / 503
    found = calibration(c, h)
    assert found.error == pytest.approx(total, rel=1e-12)
    assert sum(bin.n for bin in found.bins) == 503
    assert max(bin.n for bin in found.bins) - min(bin.n for bin in found.bins) <= 1


def test_the_order_of_equal_confidences_changes_nothing() -> None:
    c = np.repeat([0.2, 0.7], [30, 31])
    h = np.arange(61) % 3 == 0
    shuffled = RNG.permutation(61)
    one, other = calibration(c, h), calibration(c[shuffled], h[shuffled])
    assert other.error == pytest.approx(one.error, rel=1e-12)
    np.testing.assert_allclose([bin.accuracy for bin in other.bins], [bin.accuracy for bin in one.bins])
    assert calibration(np.full(40, 0.25), np.arange(40) % 4 == 0).error == pytest.approx(0, abs=1e-15)


def test_the_floor_is_what_a_perfectly_calibrated_model_shows() -> None:
    c = RNG.random(3000) ** 2
    found = [calibration(c, RNG.random(3000) < c) for _ in range(60)]
    mean = np.mean([of.error for of in found])
    assert mean == pytest.approx(found[0].floor, rel=0.06)
    coarse = np.round(c, 1)
    found = [calibration(coarse, RNG.random(3000) < coarse) for _ in range(60)]
    assert np.mean([of.error for of in found]) == pytest.approx(found[0].floor, rel=0.1)
    assert calibration(c, RNG.random(3000) < 0.5 * c).error > 5 * mean


def test_fewer_answers_than_bins() -> None:
    found = calibration([0.5, 1.0], [1, 1], bins=15)
    assert [bin.n for bin in found.bins] == [1, 1]
    assert found.error == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("confidences", "hits", "message"),
    [
        ([], [], "N at least 1"),
        ([0.5], [1, 0], "two vectors"),
        ([1.5], [1], "confidences: got 1"),
        ([np.nan], [1], "confidences: got nan"),
        ([0.5], [-1], "hits: got -1"),
    ],
)
def test_what_is_no_answer_is_refused(confidences: list[float], hits: list[int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        calibration(confidences, hits)
    with pytest.raises(InvalidInputError, match="bins"):
        calibration([0.5], [1], bins=0)
