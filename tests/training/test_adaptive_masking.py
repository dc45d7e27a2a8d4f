"""The adaptive rate: one rule, bounds, and nothing lost in a checkpoint."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest

from mini_bert import implement_adaptive_masking
from mini_bert.config.schema import Config, MaskingConfig
from mini_bert.errors import ConfigError
from mini_bert.training.adaptive_masking import AdaptiveRate

ADAPTIVE = MaskingConfig(rate=0.2, rate_schedule="adaptive", adaptive_target=0.4, adaptive_step=0.02)


def test_only_where_it_is_asked_for() -> None:
    assert AdaptiveRate.first(MaskingConfig()) is None
    assert AdaptiveRate.first(ADAPTIVE) == AdaptiveRate(0.2)


@pytest.mark.parametrize(
    ("accuracy", "change"), [(0.4, 0.0), (0.5, 0.005), (0.3, -0.005), (0.8, 0.02), (1.0, 0.02), (0.0, -0.02)]
)
def test_the_rule(accuracy: float, change: float) -> None:
    rate = AdaptiveRate(0.2)
    rate.after_evaluation(accuracy, ADAPTIVE)
    assert rate.rate == pytest.approx(0.2 + change, abs=1e-15)
    assert rate.evaluations == 1


def test_it_stays_between_the_bounds() -> None:
    for accuracy, end in ((0.99, 0.4), (0.01, 0.1)):
        rate = AdaptiveRate(0.2)
        for _ in range(40):
            rate.after_evaluation(accuracy, ADAPTIVE)
        assert rate.rate == end


@pytest.mark.parametrize("accuracy", [None, math.nan])
def test_without_an_accuracy_it_stays(accuracy: float | None) -> None:
    rate = AdaptiveRate(0.2)
    rate.after_evaluation(accuracy, ADAPTIVE)
    assert rate == AdaptiveRate(0.2)


def test_a_checkpoint_keeps_it_to_the_bit() -> None:
    whole, part = AdaptiveRate(0.2), AdaptiveRate(0.2)
    accuracies = [0.01, 0.3333, 0.51, 0.4, 0.97, 0.123456789]
    for accuracy in accuracies:
        whole.after_evaluation(accuracy, ADAPTIVE)
    for accuracy in accuracies:
        part = AdaptiveRate.restored(json.loads(json.dumps(asdict(part))))
        part.after_evaluation(accuracy, ADAPTIVE)
    assert part == whole
    assert AdaptiveRate.restored(None) is None


def test_the_function_gives_the_settings() -> None:
    config = implement_adaptive_masking(Config(train={"steps": 7}), 0.5, step=0.02, lowest=0.15, highest=0.3)
    masking = config.masking
    assert (masking.rate_schedule, masking.adaptive_target, masking.adaptive_step) == ("adaptive", 0.5, 0.02)
    assert masking.adaptive_range == (0.15, 0.3)
    assert implement_adaptive_masking(lowest=0.25).masking.rate == 0.25
    assert implement_adaptive_masking(Config(masking={"rate": 0.9})).masking.rate == 0.4
    assert config.train.steps == 7
    assert AdaptiveRate.first(implement_adaptive_masking().masking) == AdaptiveRate(0.15)
    with pytest.raises(ConfigError, match="adaptive_target"):
        implement_adaptive_masking(target=2.0)
