"""Are the vectors of words those that the model makes of their pieces, and is no word lost?"""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.data.text_rows import TextRow
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.inference.hidden_states import TOKEN, WordRows, state_names, visit_states, word_rows, word_states
from mini_bert.text.wordpiece import WordPiece

TOKENIZER = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcd", "##a", "##b", "##c", "##d"])
SENTENCES = [["a", "bcd", "c"], ["d"], ["ab", "\u0301", "cd", "a", "dddddddd"], []]


def read(length: int = 7) -> WordRows:
    return word_rows(TOKENIZER, SENTENCES, length=length)


def test_no_word_is_lost_and_rows_are_cut_between_words() -> None:
    words = read()
    assert len(words.row) == sum(map(len, SENTENCES))
    assert words.sentence.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2]
    for place, word in enumerate(word for sentence in SENTENCES for word in sentence):
        ids = words.rows[words.row[place]].ids[words.begin[place] :][: words.pieces[place]]
        expected = TOKENIZER.encode_ids(word)[:5] or [TOKENIZER.unk_id]
        assert list(ids) == expected
    for row in words.rows:
        assert row.ids[0] == TOKENIZER.cls_id
        assert row.ids[-1] == TOKENIZER.sep_id
        assert len(row.ids) <= 7
    read_pieces = sum(len(row.ids) - 2 for row in words.rows)
    assert read_pieces == words.pieces.sum() == 1 + 3 + 1 + 1 + 2 + 1 + 2 + 1 + 5


@pytest.mark.parametrize("settings", [{}, {"norm_placement": "pre"}], ids=["post", "pre"])
def test_vectors_are_those_of_one_row_at_a_time(settings: dict[str, str]) -> None:
    model, words = small_bert(**settings), read()
    names = (TOKEN, *state_names(model.config))
    assert len(names) == 2 + model.config.num_hidden_layers
    states = word_states(model, words, names, pad_id=0)
    for place, row in enumerate(words.row):
        hidden, cache = model.encode([words.rows[row].ids])
        assert np.array_equal(cache[names[-1]], hidden)
        own = slice(words.begin[place], words.begin[place] + words.pieces[place])
        for name in names:
            np.testing.assert_allclose(states[name, "first"][place], cache[name][0, own][0], atol=1e-12)
            np.testing.assert_allclose(states[name, "mean"][place], cache[name][0, own].mean(axis=0), atol=1e-12)


def test_a_pieces_own_vector_knows_no_place() -> None:
    model = small_bert()
    words = word_rows(TOKENIZER, [["a", "b", "a"]], length=7)
    states = word_states(model, words, (TOKEN, "embeddings.output"), ("first",), pad_id=0)
    table = model.parameters.embeddings.token_embeddings
    assert np.array_equal(states[TOKEN, "first"], table[[5, 6, 5]])
    assert not np.allclose(*states["embeddings.output", "first"][[0, 2]])


def test_what_cannot_be_read_is_refused() -> None:
    model = small_bert()
    with pytest.raises(InvalidInputError, match="at least 3"):
        word_rows(TOKENIZER, SENTENCES, length=2)
    with pytest.raises(InvalidInputError, match="no word"):
        word_rows(TOKENIZER, [[]], length=7)
    with pytest.raises(InvalidInputError, match=r"names: got 'layer_2\.output'"):
        word_states(model, read(), ("layer_2.output",), pad_id=0)
    with pytest.raises(InvalidInputError, match="poolings: got 'max'"):
        word_states(model, read(), (TOKEN,), ("max",), pad_id=0)
    with pytest.raises(InvalidInputError, match="rows of T = 9"):
        visit_states(model, [TextRow([2] * 9)], (TOKEN,), lambda name, numbers, x: None, pad_id=0)
    model.parameters.buffer[...] = 1e200
    with pytest.raises(NonFiniteError):
        visit_states(model, [TextRow([2, 5, 3])], (TOKEN,), lambda name, numbers, x: None, pad_id=0)
