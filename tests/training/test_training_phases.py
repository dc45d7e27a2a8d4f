"""Learning phases: reference losses against brute force, and each rule on a curve made for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mini_bert.training.phases import (
    LEARNING_FREQUENCIES,
    PLATEAU,
    REFINING,
    WAKING,
    References,
    learning_phase,
    references,
)


@pytest.mark.parametrize(("mask", "random"), [(0.8, 0.1), (1.0, 0.0), (0.5, 0.0), (0.7, 0.3), (0.0, 0.0)])
def test_reference_losses_equal_the_entropies_summed_one_by_one(mask, random):
    counts = [50, 30, 15, 5]
    total, kept = sum(counts), 1 - mask - random
    joint: dict[tuple[int, int], float] = {}
    for y, count in enumerate(counts):
        p = count / total
        joint[y, -1] = mask * p
        for x in range(4):
            joint[y, x] = p * (kept * (x == y) + random / 4)
    conditional = 0.0
    for x in range(-1, 4):
        seen = sum(joint[y, x] for y in range(4))
        conditional -= sum(joint[y, x] * math.log(joint[y, x] / seen) for y in range(4) if joint[y, x] > 1e-15)
    unigram = -sum(c / total * math.log(c / total) for c in counts)

    known = references(np.array([0, *counts, 0]), mask, random)
    assert known.unigram_loss == pytest.approx(unigram, rel=1e-12)
    assert known.attention_free_loss == pytest.approx(conditional, rel=1e-9, abs=1e-9)


KNOWN = References(unigram_loss=6.6, attention_free_loss=6.1)


def phase_of(loss_at, last=2000):
    steps = list(range(10, last + 1, 10))
    return learning_phase(steps, [loss_at(step) for step in steps], KNOWN)


def test_each_phase_on_its_own_curve():
    assert learning_phase([], [], KNOWN) == LEARNING_FREQUENCIES
    assert phase_of(lambda step: 9.0 - step / 1000) == LEARNING_FREQUENCIES
    assert phase_of(lambda step: 6.6) == PLATEAU
    assert phase_of(lambda step: 6.05) == PLATEAU
    assert phase_of(lambda step: 6.1 - max(0, step - 1600) / 300) == WAKING
    assert phase_of(lambda step: 4.2 - 0.3 * math.log(step / 2000)) == REFINING
    assert learning_phase([10], [5.0], KNOWN) == WAKING
