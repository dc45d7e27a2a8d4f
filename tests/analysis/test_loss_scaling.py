"""What a factor on the loss does to small and to large gradients."""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import BATCH, small_bert

from mini_bert.analysis.loss_scaling import DynamicScale, exponents, scan
from mini_bert.analysis.narrow_pass import backward, rounding_tap
from mini_bert.analysis.precision import Exact, narrow_pass
from mini_bert.analysis.rounding import FORMATS, rounded
from mini_bert.model.parameters import Parameters

SCALES = [2.0**k for k in range(-20, 33, 4)]
BATCH = BATCH._replace(input_ids=np.maximum(BATCH.input_ids, 1), attention_mask=None)


@pytest.fixture(scope="module")
def exact():
    return Exact.of(small_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), BATCH)


def test_a_scale_moves_underflow_to_overflow_in_float16(exact):
    lines = scan(narrow_pass(exact, FORMATS["float16"]), exact, SCALES)
    for kind in ("intermediates", "parameters"):
        damages = [getattr(line, kind) for line in lines]
        zeros = [damage.underflow for damage in damages]
        assert zeros[0] > zeros[2] > zeros[4] >= 0
        assert [damage.overflow > 0 for damage in damages] == sorted(damage.overflow > 0 for damage in damages)
        assert damages[0].overflow == 0 < damages[-1].overflow
    errors = [line.error for line in lines]
    middle = errors[SCALES.index(2.0**8)]
    assert errors[0] > 10 * middle
    assert middle < 0.01
    assert errors[-1] == np.inf


def test_within_the_range_a_power_of_two_changes_not_a_bit(exact):
    lines = scan(narrow_pass(exact, FORMATS["bfloat16"]), exact, SCALES)
    assert len({line.error for line in lines}) == 1
    assert all(line.intermediates[1:] == line.parameters[1:] == (0, 0, 0) for line in lines)
    assert {line.error for line in scan(narrow_pass(exact, FORMATS["float64"]), exact, SCALES)} == {0.0}


def test_what_is_counted_is_what_is_lost(exact):
    format, scale = FORMATS["float16"], 2.0**-12
    narrow = narrow_pass(exact, format)
    (line,) = scan(narrow, exact, [scale])
    gradients = Parameters(exact.model.config, np.float64)
    backward(narrow.model, narrow.done, exact.dlogits_MV * scale, gradients, rounding_tap(format))
    stored, there = rounded(gradients.buffer, format), exact.gradients.buffer != 0
    assert line.parameters.elements == there.sum()
    assert line.parameters.underflow == (stored[there] == 0).sum() > 0
    assert line.parameters.subnormal == ((np.abs(stored) < 2.0**-14) & (stored != 0) & there).sum()


def test_a_dynamic_scale_rises_slowly_and_falls_at_once():
    scaling = DynamicScale(8.0, patience=3)
    seen = []
    for finite in (True, True, True, True, False, True, True, True, False, False):
        scaling.update(finite)
        seen.append(scaling.scale)
    assert seen == [8, 8, 16, 16, 8, 8, 8, 16, 8, 4]


def test_exponents_are_counted_once_each():
    arrays = [np.array([1.0, -1.5, 0.0, 2.0]), np.array([[0.25, 1e-30, 1e30]])]
    assert exponents(arrays, -3, 3) == [1, 1, 0, 2, 1, 0, 1]
