"""Word similarity, analogies and sentence similarity beside loops and made vectors whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from worded_bert import worded_bert

from mini_bert.data.task_sets.analogies import Analogy
from mini_bert.data.task_sets.relatedness import SentencePair
from mini_bert.data.task_sets.word_similarity import WordPair
from mini_bert.errors import InvalidInputError
from mini_bert.inference.sentence_embeddings import sentence_embeddings
from mini_bert.metrics.correlations import spearman
from mini_bert.model.bert import MiniBERT
from mini_bert.probing.analogies import METHODS, probe_analogies, solved
from mini_bert.probing.sentence_similarity import probe_sentence_similarity, standardized, words_in_common
from mini_bert.probing.word_similarity import probe_word_similarity, spelling_overlap
from mini_bert.reports.pages import tables

PAIRS = [
    WordPair("man", "woman", 8.0),
    WordPair("king", "queen", 8.5),
    WordPair("dog", "oslo", 0.5),
    WordPair("cat", "zebra", 4.0),
    WordPair("猫", "dog", 9.0),
    WordPair("Man", "man", 10.0),
]


def test_word_similarity_is_spearmans_correlation_over_the_known_pairs():
    model = worded_bert()
    (found,) = probe_word_similarity(model, {"made": PAIRS})["sets"]
    assert (found["pairs"], found["known"], found["one_piece"]) == (6, 5, 4)
    known = [pair for pair in PAIRS if pair.first != "猫"]
    by = {entry["by"]: entry for entry in found["spearman"]}
    for name, options in (("static embeddings", {"pooling": "static"}), ("word alone, layer 2", {})):
        near = []
        for first, second, _ in known:
            a, b = sentence_embeddings(model, [first, second], **options)
            near.append(round(float(a @ b / math.sqrt((a @ a) * (b @ b))), 9))
        expected = spearman([pair.score for pair in known], near)
        assert by[name]["value"] == pytest.approx(expected.value, abs=1e-12)
        assert by[name]["interval"] == pytest.approx(expected.interval)
    spelt = spearman([pair.score for pair in known], [spelling_overlap(*pair[:2]) for pair in known])
    assert by["letters in common"]["value"] == pytest.approx(spelt.value)
    assert tables(probe_word_similarity(model, {"made": PAIRS}))[0].rows[-1][1] == "5 / 4"


def test_sets_that_say_nothing_are_refused():
    for sets, message in (({"made": PAIRS[:1]}, "1 pairs"), ({"made": [PAIRS[4]] * 2}, "0 pairs"), ({}, "no word")):
        with pytest.raises(InvalidInputError, match=message):
            probe_word_similarity(worded_bert(), sets)
    with pytest.raises(InvalidInputError, match="tokenizer"):
        probe_word_similarity(MiniBERT(worded_bert().config), {"made": PAIRS})


def made_vectors() -> np.ndarray:
    """0 to 3: two pairs with the same offset, far from all else; then noise."""
    rng = np.random.default_rng(0)
    base, offset = rng.normal(size=(2, 20)), 2 * rng.normal(size=20)
    return np.vstack([base[0], base[0] + offset, base[1], base[1] + offset, rng.normal(size=(30, 20))])


def test_an_analogy_made_by_addition_is_solved_and_only_with_the_question_left_out():
    found = solved(made_vectors(), np.array([[0, 1, 2, 3], [0, 1, 2, 7]]))
    assert found["3CosAdd"].tolist() == [True, False]
    assert found["nearest to c"].tolist() == [False, False]
    close = made_vectors()
    close[[1, 3]] = close[[0, 2]] + 0.1 * np.random.default_rng(1).normal(size=(2, 20))  # c itself is nearest
    kept = solved(close, np.array([[0, 1, 2, 3]]))
    assert kept["3CosAdd"][0]
    assert not kept["3CosAdd, all kept"][0]
    assert kept["nearest to c"][0]


def test_the_formulas_agree_with_loops():
    vectors = made_vectors() + 0.5
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = np.random.default_rng(1).permuted(np.tile(np.arange(34), (40, 1)), axis=1)[:, :4]
    found = solved(vectors, questions)
    for number, (a, b, c, d) in enumerate(questions):
        candidates = [x for x in range(34) if x not in (a, b, c)]
        add = {x: unit[x] @ (unit[b] - unit[a] + unit[c]) for x in candidates}
        s = lambda x, y: (unit[x] @ unit[y] + 1) / 2  # noqa: E731
        mul = {x: s(x, b) * s(x, c) / (s(x, a) + 0.001) for x in candidates}
        near = {x: unit[x] @ unit[c] for x in candidates}
        for method, scores in zip(METHODS, (add, mul, near), strict=True):
            assert found[method][number] == (max(scores, key=scores.get) == d), method


def test_a_tie_is_not_solved():
    vectors = made_vectors()
    vectors[9] = vectors[3]
    assert not solved(vectors, np.array([[0, 1, 2, 3]]))["3CosAdd"][0]


def test_analogies_are_asked_where_all_words_are_one_piece():
    questions = [
        Analogy("capital-common-countries", "Paris", "France", "Rome", "Italy"),
        Analogy("capital-common-countries", "Paris", "France", "Berlin", "Germany"),
        Analogy("capital-common-countries", "Paris", "France", "Oslo", "Norway"),
        Analogy("gram8-plural", "man", "man", "king", "King"),
    ]
    model = worded_bert()
    table = model.parameters["token_embeddings"]
    ids = [model.tokenizer.id(word) for word in ("paris", "france", "rome", "italy", "oslo", "norway")]
    for i in (2, 4):
        table[ids[i + 1]] = table[ids[i]] + table[ids[1]] - table[ids[0]]
    result = probe_analogies(model, questions)
    groups = {group["group"]: group for group in result["groups"]}
    assert (groups["all"]["questions"], groups["all"]["n"]) == (4, 2)
    assert (groups["grammar"]["questions"], groups["grammar"]["n"], groups["grammar"]["accuracy"]) == (1, 0, [])
    assert groups["all"]["accuracy"][0]["value"] == 1
    assert result["candidates"] == sum(piece.isalpha() and len(piece) > 1 for piece in model.tokenizer.vocabulary)
    assert tables(result)[0].rows[0][1] == "2 of 4"
    with pytest.raises(InvalidInputError, match="one piece each"):
        probe_analogies(model, questions[1:2])


def test_sentence_similarity_correlates_cosines_with_judgements():
    model = worded_bert()
    pairs = [
        SentencePair("The man helped the boy.", "The boy helped the man.", 3.0),
        SentencePair("The man helped the boy.", "A dog is sleeping.", 1.0),
        SentencePair("The king saw the queen.", "the KING saw the queen", 5.0),
        SentencePair("He was born in Oslo.", "She was born in Rome.", 3.5),
        SentencePair("A cat", "A dog", 3.0),
    ]
    (found,) = probe_sentence_similarity(model, {"made": pairs})["sets"]
    by = {entry["by"]: entry for entry in found["correlations"]}
    a, b = (sentence_embeddings(model, [pair[i] for pair in pairs]) for i in (0, 1))
    near = [x @ y / math.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
    assert by["mean, layer 2"]["spearman"] == pytest.approx(spearman([p.score for p in pairs], near).value)
    assert by["words in common"]["pearson"] == pytest.approx(
        np.corrcoef([p.score for p in pairs], [words_in_common(*p[:2]) for p in pairs])[0, 1]
    )
    assert tables(probe_sentence_similarity(model, {"made": pairs}, quick=True))
    with pytest.raises(InvalidInputError, match="1 pairs"):
        probe_sentence_similarity(model, {"made": pairs[:1]})


def test_standardized_vectors_have_mean_zero_and_deviation_one_over_the_texts():
    made = np.random.default_rng(0).normal(2, 3, (50, 4)) * [1, 100, 1e-3, 0] + [0, 0, 5, 7]
    found = standardized(made)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=0), [1, 1, 1, 0], atol=1e-9)
    assert spearman(found[:, 2], made[:, 2]).value == 1


def test_texts_without_a_word_have_all_words_in_common():
    assert words_in_common("?", "!") == 1
