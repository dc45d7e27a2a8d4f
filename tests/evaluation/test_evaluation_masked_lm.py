"""The held-out loop, on stand-ins whose scores are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.evaluation import masked_lm
from mini_bert.evaluation.masked_lm import compare, evaluate_masked_lm
from mini_bert.metrics.clustered_means import clustered_mean

V, T = 11, 6


class Table:
    """Scores that depend on the token shown at the position alone, and a record of what was asked."""

    def __init__(self, scale=1.0, dtype=np.float32):
        self.scores = (scale * np.random.default_rng(3).normal(size=(V, V))).astype(dtype)
        self.sizes = []

    def mlm_logits(self, batch):
        self.sizes.append(len(batch.masked_positions))
        return self.scores[batch.input_ids.reshape(-1)[batch.masked_positions]]


def batches(rows=(5, 1, 7), seed=0):
    rng = np.random.default_rng(seed)
    for B in rows:
        positions = np.flatnonzero(rng.random(B * T) < 0.4)
        yield Batch(
            rng.integers(0, V, (B, T)).astype(np.int32),
            masked_positions=positions,
            target_ids=rng.integers(0, V, len(positions)).astype(np.int32),
        )


def test_scores_are_those_of_a_plain_loop():
    model = Table()
    result = evaluate_masked_lm(model, batches())
    losses, best, best5, by_row = [], 0, 0, []
    for batch in batches():
        for b in range(len(batch.input_ids)):
            in_row = []
            for position, target in zip(batch.masked_positions, batch.target_ids, strict=True):
                if position // T != b:
                    continue
                z = model.scores[batch.input_ids[b, position % T]].astype(float)
                in_row.append(math.log(sum(math.exp(x) for x in z)) - z[target])
                order = sorted(range(V), key=lambda v: -z[v])
                best += order[0] == target
                best5 += target in order[:5]
            losses += in_row
            by_row.append((sum(in_row), len(in_row)))
    assert result.loss == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    assert result.perplexity == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-12)
    assert (result.top1, result.top5) == (best / len(losses), best5 / len(losses))
    assert (result.n_masked, result.n_rows) == (len(losses), 13)
    assert result.loss_interval == pytest.approx(clustered_mean(*zip(*by_row, strict=True)).interval, rel=1e-12)
    assert result.top1_interval.low < result.top1 < result.top1_interval.high
    assert result.perplexity_interval.high == pytest.approx(math.exp(result.loss_interval.high))


def test_parts_change_nothing_and_bound_the_work(monkeypatch):
    whole = evaluate_masked_lm(Table(), batches((40,)))
    monkeypatch.setattr(masked_lm, "MASKED_AT_ONCE", 8)
    model, seen = Table(), []
    cut = evaluate_masked_lm(model, batches((40,)), progress=seen.append)
    assert cut == whole
    assert max(model.sizes) <= 8
    assert len(model.sizes) > 8
    assert seen[-1] == 40
    assert seen == sorted(seen)


def test_a_row_with_more_masks_than_a_part_goes_alone(monkeypatch):
    monkeypatch.setattr(masked_lm, "MASKED_AT_ONCE", 1)
    model = Table()
    assert evaluate_masked_lm(model, batches((9,))).n_masked == sum(model.sizes)


def test_it_is_the_same_every_time():
    assert evaluate_masked_lm(Table(), batches()).to_dict() == evaluate_masked_lm(Table(), batches()).to_dict()


def test_a_uniform_model_has_the_loss_of_the_vocabulary_and_is_never_right():
    result = evaluate_masked_lm(Table(scale=0.0), batches())
    assert result.loss == pytest.approx(math.log(V), rel=1e-14)
    assert result.perplexity == pytest.approx(V)
    assert (result.top1, result.top5) == (0, 0)


def test_result_is_plain_json_even_where_a_float_overflows():
    result = evaluate_masked_lm(Table(scale=5000.0), batches())
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert record["perplexity"] is None
    assert record["loss"] == result.loss
    assert record["top5_interval"] == list(result.top5_interval)
    assert "rows" not in record


def test_comparison_is_paired():
    first, second = (evaluate_masked_lm(Table(scale), batches()) for scale in (1.0, 2.0))
    difference = compare(first, second)
    assert difference.mean == pytest.approx(first.loss - second.loss, rel=1e-12)
    assert compare(first, first)[:2] == (0, 0)
    with pytest.raises(InvalidInputError, match="same held-out"):
        compare(first, evaluate_masked_lm(Table(), batches(seed=1)))


def test_padding_rows_without_masks_do_not_count():
    batch = Batch(np.zeros((3, T), np.int32), masked_positions=np.array([T]), target_ids=np.array([2]))
    model = Table()
    assert evaluate_masked_lm(model, [batch]).n_masked == 1
    empty = Batch(np.zeros((3, T), np.int32), masked_positions=np.array([], int), target_ids=np.array([], int))
    assert evaluate_masked_lm(model, [empty, batch]).n_rows == 6
    with pytest.raises(InvalidInputError, match="no masked position"):
        evaluate_masked_lm(model, [empty])


def test_refusals():
    with pytest.raises(InvalidInputError, match="no batch"):
        evaluate_masked_lm(Table(), [])
    with pytest.raises(InvalidInputError, match="masked_positions"):
        evaluate_masked_lm(Table(), [Batch(np.zeros((1, T), int))])
    broken = Table()
    broken.scores[:] = np.nan
    with pytest.raises(NonFiniteError):
        evaluate_masked_lm(broken, batches())
