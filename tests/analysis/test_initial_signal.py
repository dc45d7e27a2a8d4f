"""The signal of a network that has learned nothing, beside what its first values have to give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mini_bert.analysis.initial_signal import SCHEMES, Signal, made_up_text, measure
from mini_bert.config.schema import ModelConfig
from mini_bert.reports import initial_signal as report

SHAPE = ModelConfig(
    vocab_size=300,
    hidden_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=384,
    max_position_embeddings=32,
)


@pytest.fixture(scope="module")
def signals() -> dict[tuple[str, str], Signal]:
    return {(signal.scheme, signal.norm_placement): signal for signal in measure(SHAPE, rows=4)}


def test_every_scheme_is_measured_with_both_placements(signals: dict[tuple[str, str], Signal]) -> None:
    assert signals.keys() == {(scheme, placement) for scheme in SCHEMES for placement in ("post", "pre")}
    for signal in signals.values():
        assert len(signal.attention) == len(signal.feed_forward) == len(signal.stream) == 3


def test_scaling_by_depth_divides_what_the_first_sublayer_adds(signals: dict[tuple[str, str], Signal]) -> None:
    for scheme, scaled in (("truncated normal 0.02", "the same, scaled by depth"), ("LeCun", "LeCun, scaled by depth")):
        plain, less = signals[scheme, "pre"], signals[scaled, "pre"]
        assert less.attention[0] * math.sqrt(6) == pytest.approx(plain.attention[0], rel=1e-9)
        assert less.stream[-1] < plain.stream[-1]


def test_the_stream_behind_a_norm_has_size_1_and_grows_without(signals: dict[tuple[str, str], Signal]) -> None:
    for (scheme, placement), signal in signals.items():
        if placement == "post":
            assert signal.stream == pytest.approx((1.0, 1.0, 1.0), rel=1e-6)
        elif not scheme.startswith(("truncated normal 0.02", "the same")):  # where next to nothing is added
            assert signal.stream[0] < signal.stream[1] < signal.stream[2]


def test_scores_grow_with_the_square_of_the_deviation(signals: dict[tuple[str, str], Signal]) -> None:
    """Query and key are both a product with a matrix of that deviation."""
    ratio = signals["truncated normal 0.05", "post"].scores / signals["truncated normal 0.02", "post"].scores
    assert ratio == pytest.approx(2.5**2, rel=0.05)


def test_the_first_loss(signals: dict[tuple[str, str], Signal]) -> None:
    """ln V where all pieces are alike; the entropy of what is drawn where the bias knows it."""
    _, counts = made_up_text(SHAPE, 4, 0)
    shares = counts[counts > 0] / counts.sum()
    entropy = -float((shares * np.log(shares)).sum())
    assert signals["truncated normal 0.02", "post"].first_loss == pytest.approx(math.log(300), abs=0.15)
    assert signals["truncated normal 0.02, unigram bias", "post"].first_loss == pytest.approx(entropy, abs=0.6)


def test_the_committed_table_is_that_of_the_default_model() -> None:
    """One scheme, measured again."""
    committed = report.read(Path(__file__).parents[2] / "docs" / "results" / "initial_signal.json")
    assert [(signal.scheme, signal.norm_placement) for signal in committed] == [
        (scheme, placement) for placement in ("post", "pre") for scheme in SCHEMES
    ]
    again = next(measure())
    assert again.first_loss == pytest.approx(committed[0].first_loss, rel=1e-6)
    assert again.scores == pytest.approx(committed[0].scores, rel=1e-6)
    made = report.table(committed, "pre")
    assert [row[0] for row in made.rows] == list(SCHEMES)
