"""Changes of a text are what they say, and stability is what two passes by hand give."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from worded_bert import worded_bert

from mini_bert.data.task_sets.word_similarity import WordPair
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.stability import measure_representation_stability
from mini_bert.evaluation.text_changes import (
    Draws,
    in_capitals,
    nearest_synonyms,
    shuffled,
    with_neighbours_swapped,
    with_synonym,
    with_typo,
)
from mini_bert.inference.sentence_embeddings import cosines, sentence_embeddings
from mini_bert.model.bert import MiniBERT
from mini_bert.reports.pages import tables

SYNONYMS = [WordPair("dog", "cat", 7.0), WordPair("dog", "king", 6.5), WordPair("man", "woman", 5.9)]
TEXTS = [
    "The old man saw the dog",
    "the queen was born in Norway",
    "a tall boy helped the cat",
    "he was not in Paris",
    "two words",
]
WORDS = ["the", "letter", "followed", "a", "tall", "man", "there"]


@pytest.mark.parametrize("change", [with_typo, with_neighbours_swapped, shuffled, in_capitals])
@pytest.mark.parametrize("keep", range(len(WORDS)))
def test_the_kept_word_stays_and_no_letter_is_lost(change, keep):
    seen = set()
    for text in range(20):
        after, place = change(list(WORDS), keep, Draws(3, "test", text))
        assert after[place].lower() == WORDS[keep]
        assert after != WORDS
        assert Counter("".join(after).lower()) == Counter("".join(WORDS))
        seen.add(" ".join(after))
    assert len(seen) > (1 if change is not in_capitals else 0)


def test_each_change_changes_what_it_should():
    draw = Draws(0, "test", 0)
    for _ in range(20):
        after, _ = with_typo(list(WORDS), 0, draw)
        (changed,) = [(a, b) for a, b in zip(WORDS, after, strict=True) if a != b]
        assert len(changed[0]) >= 4
        assert (changed[0][0], changed[0][-1]) == (changed[1][0], changed[1][-1])
        after, _ = with_neighbours_swapped(list(WORDS), 2, draw)
        differing = [i for i in range(len(WORDS)) if WORDS[i] != after[i]]
        assert len(differing) == 2
        assert differing[1] == differing[0] + 1
        assert 2 not in differing


def test_all_orders_are_equally_likely():
    counts = Counter(
        " ".join((shuffled(["a", "b", "c"], 0, Draws(1, "test", i)) or (["a", "b", "c"],))[0]) for i in range(3000)
    )
    assert len(counts) == 6
    assert all(400 < count < 600 for count in counts.values())


def test_where_a_change_does_not_apply_it_says_so():
    draw = Draws(0, "test", 0)
    assert with_typo(["it", "all", "noon"], 2, draw) is None
    assert with_typo(["loop"], 1, draw) is None  # l-oo-p: the letters that would trade places are equal
    assert with_neighbours_swapped(["The", "the"], 5, draw) is None
    assert with_synonym({"dog": "cat"}, ["a", "dog"], 1, draw) is None
    assert with_synonym({"dog": "cat"}, ["a", "Dog"], 0, draw) == (["a", "cat"], 0)
    assert shuffled(["a", "a"], 0, draw) is None


def test_synonyms_are_the_nearest_of_those_near_enough():
    assert nearest_synonyms(SYNONYMS) == {"dog": "cat", "cat": "dog", "king": "dog"}


def test_capitals_change_nothing_for_an_uncased_model_and_another_text_is_the_unit():
    model = worded_bert()
    result = measure_representation_stability(model, TEXTS, synonyms=SYNONYMS)
    by = {(line["change"], line["by"]): line for line in result["lines"]}
    assert result["texts"] == 4
    for who in ("model", "untrained"):
        case, other = by["case", who], by["another text", who]
        assert case["cosine"]["value"] == pytest.approx(1)
        assert case["moved"]["value"] == pytest.approx(0, abs=1e-9)
        assert (case["same_piece"]["value"], case["loss_rise"]["value"]) == (1, pytest.approx(0, abs=1e-9))
        assert other["moved"]["value"] == pytest.approx(1)
        shuffled_ = by["shuffled", who]
        moved = (1 - shuffled_["cosine"]["value"]) / (1 - other["cosine"]["value"])
        assert shuffled_["moved"]["value"] == pytest.approx(moved)
    assert by["synonym", "model"]["n"] < 4
    vectors = sentence_embeddings(model, TEXTS[:4])
    expected = cosines(vectors, np.roll(vectors, -(len(vectors) // 2), axis=0)).mean()
    assert by["another text", "model"]["cosine"]["value"] == pytest.approx(expected)
    assert tables(result)[0].rows[0][:3] == ("case", "model", "4")


def test_the_prediction_is_that_of_two_passes(monkeypatch):
    model = worded_bert()
    monkeypatch.setattr("mini_bert.evaluation.stability.with_typo", lambda words, keep, draw: ([*words, "dog"], keep))
    result = measure_representation_stability(model, TEXTS[1:3], synonyms=SYNONYMS, seed=4)
    (line,) = (one for one in result["lines"] if (one["change"], one["by"]) == ("typo", "model"))
    rises, same = [], []
    for number, text in enumerate(TEXTS[1:3]):
        words = text.split()
        hidden = words[Draws(4, "stability/hidden", number)(len(words))]
        target = model.tokenizer.id(hidden.lower())
        passes = []
        for one in (words, [*words, "dog"]):
            place = one.index(hidden)
            ids, _ = model.tokenizer.encode_row(" ".join([*one[:place], "[MASK]", *one[place + 1 :]]))
            z = model.forward([ids])[0][0, ids.index(model.tokenizer.mask_id)]
            passes.append((int(z.argmax()), float(np.log(np.exp(z).sum()) - z[target])))
        same.append(passes[0][0] == passes[1][0])
        rises.append(passes[1][1] - passes[0][1])
    assert line["same_piece"]["value"] == np.mean(same)
    assert line["loss_rise"]["value"] == pytest.approx(np.mean(rises))


def test_the_same_seed_gives_the_same_result_and_another_one_another():
    model = worded_bert()
    first, again, other = (
        measure_representation_stability(model, TEXTS, synonyms=SYNONYMS, seed=s)["lines"] for s in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_a_classifier_is_asked_for_its_label():
    model = worded_bert(heads=("classifier",), num_labels=3)
    lines = measure_representation_stability(model, TEXTS, synonyms=SYNONYMS)["lines"]
    assert lines[0]["same_label"]["value"] == 1
    assert "same_piece" not in lines[0]


def test_what_cannot_be_changed_is_refused():
    model = worded_bert()
    for texts in ([], TEXTS[:1] * 2, ["a b"] * 5, ["[MASK] is a dog", "he is a man"]):
        with pytest.raises(InvalidInputError, match="at least two"):
            measure_representation_stability(model, texts, synonyms=SYNONYMS)
    with pytest.raises(InvalidInputError, match="piece of its own"):
        measure_representation_stability(model, ["1 2 3 4", "5 6 7 8"], synonyms=SYNONYMS)
    with pytest.raises(InvalidInputError, match="tokenizer"):
        measure_representation_stability(MiniBERT(model.config), TEXTS, synonyms=SYNONYMS)
    model.parameters.buffer[...] = 0
    for name in model.parameters:
        if "beta" in name:
            model.parameters[name][...] = 1
    with pytest.raises(InvalidInputError, match="same vector"):
        measure_representation_stability(model, TEXTS, synonyms=SYNONYMS)
