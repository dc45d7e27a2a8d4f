"""Minimal edits: what makes them minimal; and composition beside the definition."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from worded_bert import worded_bert

from mini_bert.data.task_sets.relatedness import SentencePair
from mini_bert.errors import InvalidInputError
from mini_bert.inference.sentence_embeddings import cosines, sentence_embeddings
from mini_bert.probing.composition import changed_words, measure_compositional_understanding
from mini_bert.probing.minimal_edits import KINDS, minimal_edits, reversed_roles
from mini_bert.probing.sentence_similarity import words_in_common
from mini_bert.reports.pages import tables

SICK = [
    SentencePair("The man is sleeping", "A man is sleeping", 4.9, "ENTAILMENT"),
    SentencePair("The man is sleeping", "The man is not sleeping", 3.6, "CONTRADICTION"),
    SentencePair("The dog saw the cat", "The cat saw the dog", 3.9, "NEUTRAL"),
    SentencePair("The old king helped the boy", "The boy was helped by the old king", 4.7, "ENTAILMENT"),
    SentencePair("A queen was born in Paris", "No queen was born in Paris", 3.2, "CONTRADICTION"),
    SentencePair("A girl followed the dog", "He was in Oslo", 1.1, "NEUTRAL"),
]


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


def test_no_word_tells_which_edit_keeps_the_meaning():
    edits = minimal_edits()
    assert Counter(edit.kind for edit in edits) == dict(zip(KINDS, (528, 792, 720), strict=True))
    assert len(set(edits)) == len(edits)
    for edit in edits:
        assert words_in_common(edit.sentence, edit.same) == words_in_common(edit.sentence, edit.other)
        if edit.kind == "negation":
            assert [len(words(new) - words(edit.sentence)) for new in (edit.same, edit.other)] == [1, 1]
        else:
            assert words(edit.same) == words(edit.other)
            assert edit.same != edit.other
    active = [edit for edit in edits if edit.kind == KINDS[0]]
    assert all(words(reversed_roles(edit)) == words(edit.sentence) for edit in active)
    assert all(reversed_roles(edit) != edit.sentence for edit in active)


def test_changed_words_are_counted_whatever_their_order():
    assert changed_words("a dog saw a cat", "A cat saw a dog.") == 0
    assert changed_words("a dog saw a cat", "a dog saw the old cat") == 2
    assert changed_words("a dog", "") == 2


def test_distances_are_in_units_of_unrelated_sentences():
    model = worded_bert()
    result = measure_compositional_understanding(model, SICK, quick=True)
    first, second = (sentence_embeddings(model, [pair[i] for pair in SICK]) for i in (0, 1))
    unit = np.mean(1 - cosines(first, second[[3, 4, 5, 0, 1, 2]]))
    distances = (1 - cosines(first, second)) / unit
    line = result["sick"]["scores"][0]
    judged = np.array([pair.judgement for pair in SICK])
    for name in set(judged):
        assert line["mean"][name] == pytest.approx(distances[judged == name].mean())
    strict = judged != "NEUTRAL"
    assert line["area"] == pytest.approx(roc_auc_score(judged[strict] == "CONTRADICTION", distances[strict]))
    assert result["sick"]["near_pairs"] == sum(changed_words(*pair[:2]) <= 2 for pair in SICK)

    edits = [edit for edit in minimal_edits()[::5] if edit.kind == "negation"]
    same, other = (
        [
            1 - float(cosines(*sentence_embeddings(model, [e.sentence, new])[:, None])[0])
            for e, new in zip(edits, texts, strict=True)
        ]
        for texts in ([e.same for e in edits], [e.other for e in edits])
    )
    (found,) = (line for line in result["edits"]["triples"] if (line["edit"], line["by"]) == ("negation", "model"))
    assert found["n"] == len(edits)
    assert found["accuracy"] == pytest.approx(np.mean([b > a for a, b in zip(same, other, strict=True)]))
    assert found["same"]["value"] == pytest.approx(np.mean(same) / unit)


def test_words_in_common_are_at_chance_and_all_ties():
    result = measure_compositional_understanding(worded_bert(), SICK, quick=True)
    for line in result["edits"]["triples"]:
        if line["by"] == "words in common":
            assert (line["accuracy"], line["ties"]) == (0.5, 1)
    assert result["edits"]["people_swapped"]["words in common"] == 0
    assert len(tables(result)) == 2


def test_a_bag_of_pieces_cannot_tell_orders_apart():
    """Without blocks that mix, position and order are all that could: zeroed, every order is the same place."""
    model = worded_bert(max_position_embeddings=96)
    for name in model.parameters:
        if name.startswith(("W_", "b_Q", "b_K", "b_V", "b_O")) or name == "position_embeddings":
            model.parameters[name][...] = 0
    for line in measure_compositional_understanding(model, SICK, quick=True)["edits"]["triples"]:
        if line["by"] == "model" and line["edit"] != "negation":
            assert (line["accuracy"], line["ties"]) == (0.5, 1)


def test_too_few_pairs_and_a_model_that_says_one_thing_are_refused():
    model = worded_bert()
    with pytest.raises(InvalidInputError, match="1 pairs"):
        measure_compositional_understanding(model, SICK[:1])
    model.parameters.buffer[...] = 0
    for name in model.parameters:
        if "beta" in name:
            model.parameters[name][...] = 1
    with pytest.raises(InvalidInputError, match="same vector"):
        measure_compositional_understanding(model, SICK, quick=True)
