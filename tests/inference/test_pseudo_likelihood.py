"""Pseudo-likelihoods against one mask at a time, and against what may not change them."""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.inference import pseudo_likelihood
from mini_bert.inference.pseudo_likelihood import Scored, pseudo_log_likelihoods
from mini_bert.text.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "##d", "e", "f", "##g", "."]
TOKENIZER = WordPiece(PIECES)
CLS, SEP, MASK = 2, 3, 4
TEXTS = [
    [5, 7, 8, 6, 12],
    [9],
    [],
    [5, 7, 8, 9, 12],
    [9, 10, 6, 12],
    [6, 11, 7, 1],
    [5, 7, 8, 6, 12],
    [7, 8, 9],
    [5, 6, 7, 8, 9, 10, 11, 12, 5],
    [5, 4],
    [4, 6],
]
"""One is longer than a row of 7; one comes twice; one begins inside a word; the last two, hidden, are the same row."""


def model(**settings):
    made = small_bert(**settings)
    made.tokenizer = TOKENIZER
    return made


def slowly(bert, pieces, within_word=False):
    """One row, one mask, one softmax over everything at a time."""
    room = bert.config.max_position_embeddings - 2
    found = []
    for place, target in enumerate(pieces):
        shown = list(pieces)
        shown[place] = MASK
        if within_word:
            following = place + 1
            while following < len(pieces) and PIECES[pieces[following]].startswith("##"):
                shown[following] = MASK
                following += 1
        start = min(max(place - room // 2, 0), max(len(pieces) - room, 0))
        row = [CLS, *shown[start : start + room], SEP]
        logits, _ = bert.forward(np.array([row]))
        z = logits[0, place - start + 1].astype(np.float64)
        found.append(z[target] - z.max() - np.log(np.exp(z - z.max()).sum()))
    return found


@pytest.mark.parametrize("within_word", [False, True])
@pytest.mark.parametrize(("dtype", "within"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_one_mask_at_a_time_says_the_same(within_word: bool, dtype, within: float) -> None:
    bert = model(dtype=dtype)
    log_p = pseudo_log_likelihoods(bert, [Scored(text, within_word=within_word) for text in TEXTS])
    for got, text in zip(log_p, TEXTS, strict=True):
        np.testing.assert_allclose(got, slowly(bert, text, within_word), atol=within)
        assert got.shape == (len(text),)


def test_the_rest_of_a_word_is_hidden_and_nothing_else() -> None:
    bert = model()
    plain, within = pseudo_log_likelihoods(bert, [Scored(TEXTS[0]), Scored(TEXTS[0], within_word=True)])
    assert (abs(plain - within)[:2] > 1e-6).all(), "two pieces are followed by others of their word"
    assert plain[2:].tolist() == within[2:].tolist()


def test_places_are_those_asked_for() -> None:
    bert = model()
    everything = pseudo_log_likelihoods(bert, [Scored(text) for text in TEXTS])
    some = pseudo_log_likelihoods(bert, [Scored(text, [len(text) - 1, 0]) for text in TEXTS if text])
    for got, whole in zip(some, [values for values in everything if values.size], strict=True):
        np.testing.assert_allclose(got, whole[[-1, 0]], atol=1e-12)


@pytest.mark.parametrize(("name", "size"), [("_PLACES_AT_ONCE", 3), ("TOKENS_AT_ONCE", 1), ("_MASKED_AT_ONCE", 2)])
def test_how_much_is_done_at_once_changes_nothing(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bert, texts = model(), [Scored(text) for text in TEXTS]
    whole = pseudo_log_likelihoods(bert, texts)
    monkeypatch.setattr(pseudo_likelihood, name, size)
    for got, expected in zip(pseudo_log_likelihoods(bert, texts), whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_threads_change_no_bit() -> None:
    bert, texts = model(dtype=np.float32), [Scored(text) for text in TEXTS]
    one, three = (pseudo_log_likelihoods(bert, texts, threads=threads) for threads in (1, 3))
    assert [values.tolist() for values in one] == [values.tolist() for values in three]


def test_each_different_row_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence twice; a pair that differs in one piece; plain and within words, where a piece ends its word."""
    bert, rows = model(), []
    compute = bert.mlm_logits

    def counted(batch: Batch):
        rows.extend(zip(batch.input_ids.tolist(), batch.masked_positions.tolist(), strict=True))
        return compute(batch)

    monkeypatch.setattr(bert, "mlm_logits", counted)
    texts = [[5, 7, 6], [5, 7, 6], [5, 7, 9]]
    log_p = pseudo_log_likelihoods(bert, [Scored(text, within_word=w) for text in texts for w in (False, True)])
    assert len(rows) == len({(tuple(row), place % 5) for row, place in rows}) == 7, (
        "5 7 _ once; _ 7 x, 5 _ x, _ _ x twice"
    )
    assert log_p[0].tolist() == log_p[2].tolist()
    both = np.exp([log_p[0][2], log_p[4][2]])
    assert both.sum() < 1, "two answers to one question"
    assert both[0] != both[1]


def test_all_pieces_of_a_place_sum_to_one() -> None:
    bert = model()
    log_p = pseudo_log_likelihoods(bert, [Scored([5, piece, 9], [1]) for piece in range(13)])
    assert np.exp(np.concatenate(log_p)).sum() == pytest.approx(1)


def test_progress_ends_where_the_texts_end() -> None:
    told = []
    pseudo_log_likelihoods(model(), [Scored(text) for text in TEXTS], progress=lambda *what: told.append(what))
    assert told[-1][1:] == (len(TEXTS), len(TEXTS))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert pseudo_log_likelihoods(model(), []) == []


def test_what_cannot_be_scored_is_refused() -> None:
    bert = model()
    with pytest.raises(InvalidInputError, match=r"texts\[1\]: got id 13"):
        pseudo_log_likelihoods(bert, [Scored([5]), Scored([13])])
    with pytest.raises(InvalidInputError, match="id -1"):
        pseudo_log_likelihoods(bert, [Scored([-1], within_word=True)])
    with pytest.raises(InvalidInputError, match="places"):
        pseudo_log_likelihoods(bert, [Scored([5], [1])])
    with pytest.raises(InvalidInputError, match="threads"):
        pseudo_log_likelihoods(bert, [Scored([5])], threads=0)
    with pytest.raises(InvalidInputError, match="mlm"):
        pseudo_log_likelihoods(model(heads=("classifier",)), [Scored([5])])
    with pytest.raises(InvalidInputError, match="tokenizer"):
        pseudo_log_likelihoods(small_bert(), [Scored([5])])


@pytest.mark.parametrize(("name", "value"), [("token_embeddings", np.nan), ("W2_0", 1e308)])
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    bert = model()
    bert.parameters[name][...] = value
    with pytest.raises(NonFiniteError, match="model"):
        pseudo_log_likelihoods(bert, [Scored([5, 6])])
