"""Is a text's vector what one text at a time, by the definition, gives?"""

from __future__ import annotations

import numpy as np
import pytest
from worded_bert import worded_bert

from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.inference.sentence_embeddings import (
    cosines,
    layer_embeddings,
    nearest,
    sentence_embeddings,
    unit_vectors,
)
from mini_bert.inference.untrained import untrained_like
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece

TEXTS = ["The man helped the woman.", "a dog", "He", "zebra in oslo", "a dog"]


def states(model: MiniBERT, text: str) -> list[np.ndarray]:
    """Layers 0 to L of one text by itself, each [T, H]."""
    ids, _ = model.tokenizer.encode_row(text)
    _, cache = model.encode([ids])
    names = ["embeddings.output", *(f"layer_{i}.output" for i in range(model.config.num_hidden_layers))]
    if model.config.norm_placement == "pre":
        names[-1] = "encoder.output"
    return [cache[name][0] for name in names]


@pytest.mark.parametrize("settings", [{}, {"norm_placement": "pre"}])
@pytest.mark.parametrize(
    ("pooling", "by_hand"),
    [
        ("mean", lambda h: sum(h[1:-1]) / len(h[1:-1])),
        ("max", lambda h: np.array([max(column) for column in h[1:-1].T])),
        ("cls", lambda h: h[0]),
    ],
)
def test_each_layer_and_pooling_agrees_with_one_text_at_a_time(settings, pooling, by_hand):
    model = worded_bert(**settings)
    found = layer_embeddings(model, TEXTS, pooling=pooling)
    assert found.shape == (3, 5, 12)
    for number, text in enumerate(TEXTS):
        for layer, hidden in enumerate(states(model, text)):
            np.testing.assert_allclose(found[layer, number], by_hand(hidden), atol=1e-12)
    some = sentence_embeddings(model, TEXTS, pooling=pooling, layers=(-1, 1))
    np.testing.assert_allclose(some, (found[2] + found[1]) / 2, atol=1e-12)


def test_static_vectors_know_no_order_and_no_context():
    model = worded_bert()
    table = model.parameters["token_embeddings"]
    (vector,) = sentence_embeddings(model, ["zoo"], pooling="static")
    ids = [model.tokenizer.id(piece) for piece in ("z", "##o", "##o")]
    np.testing.assert_allclose(vector, (table[ids[0]] + 2 * table[ids[1]]) / 3, atol=1e-12)
    forth, back = sentence_embeddings(model, ["the old dog", "dog the old"], pooling="static")
    np.testing.assert_allclose(forth, back, atol=1e-12)


def test_a_long_text_is_cut_and_normalized_vectors_have_length_one():
    model = worded_bert()
    long = " ".join(["the man saw the woman"] * 9)
    both = sentence_embeddings(model, [long, " ".join(long.split()[:14])], normalized=True)
    np.testing.assert_allclose(both[0], both[1], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1)
    assert not unit_vectors(np.zeros((2, 3))).any()


def test_the_nearest_are_those_of_a_full_sort(monkeypatch):
    rng = np.random.default_rng(0)
    queries, among = rng.normal(size=(7, 5)), rng.normal(size=(20, 5))
    monkeypatch.setattr("mini_bert.inference.sentence_embeddings._COSINES_AT_ONCE", 40)
    numbers, found = nearest(queries, among, 20)
    for query, row, values in zip(queries, numbers, found, strict=True):
        by_hand = [query @ x / np.sqrt((query @ query) * (x @ x)) for x in among]
        np.testing.assert_allclose(values, sorted(by_hand, reverse=True), atol=1e-12)
        np.testing.assert_allclose([by_hand[i] for i in row], values, atol=1e-12)
    np.testing.assert_allclose(
        cosines(queries, among[:7])[2], queries[2] @ among[2] / np.linalg.norm(queries[2]) / np.linalg.norm(among[2])
    )


def test_of_equally_near_ones_the_first_comes_first():
    numbers, found = nearest([[0, 2.0]], [[1, 0], [0, 4], [0, 1], [-1, 0]], 4)
    assert numbers.tolist() == [[1, 2, 0, 3]]
    assert found.tolist() == [[1, 1, 0, 0]]


def test_what_cannot_be_embedded_is_refused():
    model = worded_bert()
    for texts, options, message in (
        (["a dog", " "], {}, "no piece in text 1"),
        ("a dog", {}, "one string"),
        (["a dog"], {"pooling": "sum"}, "mean or cls"),
        (["a dog"], {"layers": (3,)}, "0 .*to 2"),
        (["a dog"], {"layers": ()}, "at least one"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            sentence_embeddings(model, texts, **options)
    with pytest.raises(InvalidInputError, match="without a tokenizer"):
        sentence_embeddings(MiniBERT(model.config), ["a dog"])
    bigger = worded_bert()
    bigger.tokenizer = WordPiece([*model.tokenizer.vocabulary, "zebra"])
    for pooling in ("mean", "static"):
        with pytest.raises(InvalidInputError, match="103 pieces"):
            sentence_embeddings(bigger, ["a zebra"], pooling=pooling)
    for k in (0, 3):
        with pytest.raises(InvalidInputError, match="1 to 2"):
            nearest(np.ones((1, 2)), np.ones((2, 2)), k)
    with pytest.raises(InvalidInputError, match="second"):
        cosines(np.ones((1, 2)), np.ones((2, 2)))
    model.parameters.buffer[...] *= 1e300
    with pytest.raises(NonFiniteError):
        sentence_embeddings(model, ["a dog"])


def test_the_untrained_twin():
    model = worded_bert()
    twin = untrained_like(worded_bert(decoder_bias_init="zeros"), seed=1)
    assert twin.tokenizer == model.tokenizer
    assert twin.parameters.table == model.parameters.table
    np.testing.assert_array_equal(twin.parameters.buffer, MiniBERT(model.config, np.float64, 1).parameters.buffer)
