"""The n-gram model against counts and formulas done by loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.inference import kneser_ney
from mini_bert.inference.kneser_ney import KneserNey, fit_kneser_ney

V, MASK = 9, 4


def some_texts(seed=0, texts=60):
    """Texts in which some n-grams come often and some once."""
    rng = np.random.default_rng(seed)
    patterns = [rng.integers(5, V, 4).tolist() for _ in range(4)]
    made = []
    for _ in range(texts):
        text = []
        for _ in range(rng.integers(1, 4)):
            text += patterns[rng.integers(4)] if rng.random() < 0.7 else rng.integers(5, V, 3).tolist()
        made.append(text[: rng.integers(1, len(text) + 1)])
    return made


def fitted(texts, order=4, dtype=np.uint16) -> KneserNey:
    return fit_kneser_ney([np.array(text, dtype) for text in texts], V, order)


class Slow:
    """(KN.1) to (KN.4) with dictionaries; the boundary is V."""

    def __init__(self, texts, n) -> None:
        self.n = n
        c = Counter(
            tuple(framed[i : i + k])
            for framed in ([V, *text, V] for text in texts if text)
            for k in range(1, n + 1)
            for i in range(len(framed) - k + 1)
        )
        self.a = {}
        for g in c:
            keeps = len(g) == n or (len(g) > 1 and g[0] == V)
            self.a[g] = c[g] if keeps else len({h[0] for h in c if len(h) == len(g) + 1 and h[1:] == g})
        self.D = {}
        for k in range(1, n + 1):
            m = Counter(a for g, a in self.a.items() if len(g) == k)
            self.D[k] = (0, 0.5, 1, 1.5)
            if m[1] and m[2] and m[3] and m[4]:
                Y = m[1] / (m[1] + 2 * m[2])
                D = [0, *(j - (j + 1) * Y * m[j + 1] / m[j] for j in (1, 2, 3))]
                self.D[k] = tuple(D) if min(D[1:]) > 0 else self.D[k]

    def p(self, u, w):
        u = tuple(u)[-(self.n - 1) :] if self.n > 1 else ()
        lower = self.p(u[1:], w) if u else 1 / (V + 1)
        seen = [a for g, a in self.a.items() if len(g) == len(u) + 1 and g[:-1] == u]
        if not sum(seen):
            return lower
        D = self.D[len(u) + 1]
        a = self.a.get((*u, w), 0)
        gamma = sum(D[min(x, 3)] for x in seen) / sum(seen)
        return max(a - D[min(a, 3)], 0) / sum(seen) + gamma * lower


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_sentences_agree_with_dictionaries(order: int) -> None:
    texts = some_texts()
    model, slow = fitted(texts, order), Slow(texts, order)
    assert order == 2 or slow.D[order] != (0, 0.5, 1, 1.5), "the discounts come from the counts"
    for text in [*texts[:6], [5, 5, 5, 5, 5, 5], [8, 0, 7, 6], []]:
        framed = [V, *text, V]
        expected = [np.log(slow.p(framed[:i], framed[i])) for i in range(1, len(framed))]
        np.testing.assert_allclose(model.log_p(text), expected, atol=2e-6)


def test_every_context_has_probabilities_that_sum_to_one() -> None:
    model = fitted(some_texts(1), 5)
    for context in ([], [5], [5, 6], [6, 7, 8], [5, 6, 7, 8], [0, 1]):
        total = sum(np.exp(model.log_p([*context, w])[len(context)]) for w in range(V))
        assert total + np.exp(model.log_p(context)[-1]) == pytest.approx(1, abs=1e-6)


def test_too_few_counts_of_counts_take_the_plain_discounts() -> None:
    texts = [[5, 6, 7]]
    model, slow = fitted(texts, 3), Slow(texts, 3)
    assert model.log_p([5, 6, 7]).sum() == pytest.approx(
        sum(np.log(slow.p([V, 5, 6, 7, V][:i], [V, 5, 6, 7, V][i])) for i in range(1, 5)), abs=1e-6
    )


def test_no_n_gram_runs_over_a_boundary() -> None:
    model = fitted([[5, 6], [7, 8]], 3)
    assert model.n_grams == [V + 1, 6, 4]
    assert model.unigrams.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_masked_positions_see_the_corrupted_row_back_to_the_nearest_mask() -> None:
    texts = some_texts(2)
    model, slow = fitted(texts, 4), Slow(texts, 4)
    row = [2, 5, MASK, 7, 6, MASK, MASK, 8, 5, 3]
    positions = np.array([1, 2, 4, 5, 6, 8])
    log_p = model.mlm_logits(Batch(np.array([row, row]), masked_positions=np.concatenate([positions, positions + 10])))
    contexts = [[], [5], [7], [7, 6], [], [8]]
    for got, again, context in zip(log_p[:6], log_p[6:], contexts, strict=True):
        p = np.array([slow.p(context, w) for w in range(V)])
        np.testing.assert_allclose(got, np.log(p / p.sum()), atol=2e-6)
        assert got.tolist() == again.tolist()
    first = model.mlm_logits(Batch(np.array([[5, 6], [MASK, 7]]), masked_positions=np.array([2])))
    assert first[0].tolist() == log_p[0].tolist(), "the row above is no context"


def test_the_order_of_texts_and_their_type_change_nothing() -> None:
    texts = some_texts(3)
    one, other = fitted(texts), fitted(texts[::-1], dtype=np.int64)
    np.testing.assert_array_equal(one.log_p(texts[0]), other.log_p(texts[0]))
    assert one.bytes == other.bytes > 0


def test_how_much_is_done_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = some_texts(4)
    whole = fitted(texts, 5)
    monkeypatch.setattr(kneser_ney, "_SORTED_AT_ONCE", 10)
    monkeypatch.setattr(kneser_ney, "_TEXTS_AT_ONCE", 4)
    parts = fitted(texts, 5)
    assert parts.n_grams == whole.n_grams
    for text in texts:
        assert parts.log_p(text).tolist() == whole.log_p(text).tolist()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "no token"),
        ([[]], "no token"),
        ([[5, V]], "ids from 5 to 9"),
        ([[-1]], "ids from -1"),
        ([[5, V + 1]], "ids from 5 to 10"),
        ([[0.5]], "float64"),
        ([[[5]]], "int64"),
    ],
)
def test_what_cannot_be_counted_is_refused(texts, words) -> None:
    with pytest.raises(InvalidInputError, match=words):
        fit_kneser_ney([np.array(text) for text in texts], V)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="order"):
        fitted([[5]], 1)
    with pytest.raises(InvalidInputError, match="vocab_size"):
        fit_kneser_ney([np.array([5])], 1 << 17)
    with pytest.raises(InvalidInputError, match="pieces"):
        fitted([[5]]).log_p([V])
    with pytest.raises(InvalidInputError, match="masked_positions"):
        fitted([[5]]).mlm_logits(Batch(np.array([[5]])))
