"""Is the entropy of a head that of its weights, over real queries alone?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.analysis.attention_entropy import compute_attention_entropy
from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError

IDS = np.array([[2, 5, 6, 7, 3, 0], [2, 6, 5, 3, 0, 0], [2, 5, 3, 0, 0, 0]])
REAL = IDS != 0


def test_entropies_are_those_of_a_loop_over_the_weights() -> None:
    model = small_bert()
    measured = compute_attention_entropy(model, [Batch(IDS[:2], REAL[:2]), Batch(IDS[2:], REAL[2:])])
    assert (measured["rows"], measured["queries"]) == (3, 12)
    _, cache = model.encode(IDS, REAL)
    for line in measured["heads"]:
        weights = cache[f"layer_{line['layer']}.attention.attention_weights"][:, line["head"]]
        entropies, shares, first, last, previous, behind = [], [], [], [], [], []
        for row, keys in enumerate(REAL.sum(axis=1)):
            for query in range(keys):
                a = weights[row, query, :keys]
                entropies.append(-sum(p * math.log(p) for p in a))
                shares.append(entropies[-1] / math.log(keys))
                first.append(a[0])
                last.append(a[keys - 1])
                previous += [a[query - 1]] if query else []
                behind += [a[query + 1]] if query < keys - 1 else []
        assert line["entropy"] == pytest.approx(np.mean(entropies), rel=1e-12)
        assert line["share"] == pytest.approx(np.mean(shares), rel=1e-12)
        assert line["previous"] == pytest.approx(np.mean(previous), rel=1e-12)
        assert line["next"] == pytest.approx(np.mean(behind), rel=1e-12)
        assert line["first"] == pytest.approx(np.mean(first), rel=1e-12)
        assert line["last"] == pytest.approx(np.mean(last), rel=1e-12)
        assert line["interval"][0] < line["entropy"] < line["interval"][1]
    assert len(measured["heads"]) == model.config.num_hidden_layers * model.config.num_attention_heads


def test_a_head_that_looks_everywhere_alike_has_the_largest_entropy() -> None:
    model = small_bert()
    model.parameters["W_Q_0"][...] = 0
    model.parameters["b_Q_0"][...] = 0
    measured = compute_attention_entropy(model, [Batch(IDS[:1, :5])])
    assert measured["heads"][0]["entropy"] == pytest.approx(math.log(5), rel=1e-12)
    assert measured["heads"][0]["share"] == pytest.approx(1, rel=1e-12)
    assert measured["heads"][0]["interval"] == [None, None]


def test_no_rows_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no row"):
        compute_attention_entropy(small_bert(), [])
