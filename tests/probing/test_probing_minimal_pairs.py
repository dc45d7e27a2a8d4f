"""Minimal pairs against loops, ties, and a model that knows what it was told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.data.task_sets.minimal_pairs import MinimalPair
from mini_bert.errors import InvalidInputError
from mini_bert.inference.kneser_ney import fit_kneser_ney
from mini_bert.inference.pseudo_likelihood import Scored, pseudo_log_likelihoods
from mini_bert.metrics.proportions import wilson_interval
from mini_bert.probing.minimal_pairs import LABELS, changed_words, probe_minimal_pairs, sample_of
from mini_bert.text.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "##d", "e", "f", "##g", "."]
TOKENIZER = WordPiece(PIECES)
PAIRS = [
    MinimalPair("a b .", "b a .", "order", "syntax"),
    MinimalPair("acd e .", "ac e .", "inflection", "morphology"),
    MinimalPair("x e .", "z e .", "unknown", "morphology"),
    MinimalPair("e fg", "e f", "inflection", "morphology"),
    MinimalPair("a e f", "a e b", "order", "syntax"),
    MinimalPair("b b", "b b b", "order", "syntax"),
]
TEXTS = [[5, 6, 12], [5, 9, 10, 12], [6, 9, 12], [5, 6, 9], [9, 10, 11]]


def model(**settings):
    made = small_bert(**settings)
    made.tokenizer = TOKENIZER
    return made


def probed(pairs=PAIRS, ngrams=True, **sets):
    counted = fit_kneser_ney([np.array(text) for text in TEXTS], 13) if ngrams else None
    return probe_minimal_pairs(model(), {"made": pairs, **sets}, ngrams=counted)


def by_hand(score) -> float:
    """Accuracy with a tie as one half, by a loop."""
    total = 0.0
    for pair in PAIRS:
        good, bad = score(TOKENIZER.encode_ids(pair.good)), score(TOKENIZER.encode_ids(pair.bad))
        total += 1 if good > bad else 0.5 if good == bad else 0
    return total / len(PAIRS)


def test_every_way_is_what_a_loop_finds() -> None:
    bert, counted = model(), fit_kneser_ney([np.array(text) for text in TEXTS], 13)
    total = probed()["sets"][0]["total"]
    n, N = counted.unigrams, sum(map(len, TEXTS))

    def log_p(ids, within_word=False):
        return pseudo_log_likelihoods(bert, [Scored(ids, within_word=within_word)])[0]

    assert total["pll"]["accuracy"] == by_hand(lambda ids: log_p(ids).sum())
    assert total["pll_within_word"]["accuracy"] == by_hand(lambda ids: log_p(ids, True).sum())
    assert total["pll_mean"]["accuracy"] == by_hand(lambda ids: log_p(ids).mean())
    assert total["shorter"]["accuracy"] == by_hand(lambda ids: -len(ids))
    assert total["kneser_ney"]["accuracy"] == by_hand(lambda ids: counted.log_p(ids).sum())
    logs = [math.log((count + 1) / (N + 13)) for count in n.tolist()]
    assert total["unigram"]["accuracy"] == by_hand(lambda ids: math.fsum(logs[i] for i in ids))
    assert list(total) == list(LABELS)


def test_ties_count_one_half_and_are_reported() -> None:
    """Two words that are both [UNK] are one sentence to the model; the same words in another order, to the unigram."""
    result = probed()["sets"][0]
    unknown = next(group for group in result["paradigms"] if group["paradigm"] == "unknown")
    assert result["identical"] == 1
    assert result["unknown_share"] == pytest.approx(2 / result["pieces"])
    for way in ("pll", "pll_within_word", "shorter", "unigram", "kneser_ney"):
        assert unknown["scores"][way] | {"interval": None} == {"n": 1, "accuracy": 0.5, "interval": None, "ties": 1}
    assert unknown["scores"]["changed"] is None


def test_the_same_words_in_any_order_tie_for_the_unigram() -> None:
    """Floating sums depend on the order of their summands, and would decide here by rounding."""
    order = np.random.default_rng(0)
    words = ["a", "b", "e", "f", ".", "a", "b", "a", "f", "f", "."]
    pairs = [MinimalPair(*(" ".join(order.permutation(words)) for _ in range(2)), "p", "p") for _ in range(30)]
    found = probed(pairs)["sets"][0]["total"]
    assert found["unigram"]["ties"] == found["shorter"]["ties"] == 30


def test_groups_add_up_to_the_total() -> None:
    result = probed()["sets"][0]
    for key in ("paradigms", "phenomena"):
        assert sum(group["n"] for group in result[key]) == 6
        for way in ("pll", "unigram", "shorter"):
            hits = sum(group["n"] * group["scores"][way]["accuracy"] for group in result[key])
            assert hits / 6 == pytest.approx(result["total"][way]["accuracy"])
    same = result["same_length"]["pll"]
    assert same["n"] == 3
    assert [line["baseline"] for line in result["differences"]] == ["shorter", "unigram", "kneser_ney"]
    lead = result["total"]["pll"]["accuracy"] - result["total"]["unigram"]["accuracy"]
    assert result["differences"][1]["accuracy"] == pytest.approx(lead)


def test_pairs_of_one_group_are_no_independent_trials() -> None:
    """Ten copies of each of eight pairs know no more than the eight."""
    pairs = [MinimalPair(*("a b .", "b a .")[:: 1 if i % 3 else -1], "p", "p") for i in range(8)]
    copies = [pair._replace(group=str(i)) for i, pair in enumerate(pairs) for _ in range(10)]
    one, many, taken = (probed(some, False)["sets"][0]["total"]["pll"] for some in (pairs, copies, pairs * 10))
    assert one["accuracy"] == many["accuracy"]
    few = 7 * (1.99045 / 2.36462) ** 2  # Student's t for 79 and 7 degrees of freedom: the spread of eight is uncertain
    assert many["interval"] == pytest.approx(wilson_interval(few * one["accuracy"], few), abs=1e-4)
    assert taken["interval"][1] - taken["interval"][0] < 0.6 * (many["interval"][1] - many["interval"][0])
    assert one["interval"] == pytest.approx(wilson_interval(8 * one["accuracy"], 8), abs=0.03)


def test_changed_words_are_whole_words() -> None:
    flags = TOKENIZER.continuation

    def changed(good: str, bad: str) -> tuple[list[int], list[int]]:
        rows = [TOKENIZER.encode_ids(text) for text in (good, bad)]
        parts = changed_words(*rows, flags)
        return tuple([row[place] for place in places] for row, places in zip(rows, parts, strict=True))

    assert changed("e a f", "e b f") == ([5], [6])
    assert changed("e acd f", "e ac f") == ([5, 7, 8], [5, 7])
    assert changed("e ac f", "e bc f") == ([5, 7], [6, 7])
    assert changed("e a", "e ac") == ([5], [5, 7])
    assert changed("e a f", "e f") == ([5], [])
    assert changed("e e e", "e e") == ([9], [])
    assert changed("a e f b", "b e f a") == ([5, 6], [6, 5])
    assert changed("a e bc f a", "b e bc f f") == ([5, 5], [6, 10])
    assert changed("a e bc f", "e ac f f") == ([5, 6, 7], [5, 7, 10])
    assert changed("a", "a") == ([], [])
    assert changed("cd a", "a") == ([1], [])


def test_a_pair_that_only_leaves_a_word_out_has_no_changed_words() -> None:
    total = probed([MinimalPair("a e f", "a f", "p", "p"), MinimalPair("a e f", "a b f", "p", "p")])["sets"][0]["total"]
    assert total["changed"]["n"] == 1
    assert total["pll"]["n"] == 2


def test_a_sample_is_evenly_spread_and_each_paradigm_keeps_its_share() -> None:
    pairs = [MinimalPair(str(i), "x", "ab"[i % 2], "p") for i in range(40)]
    assert [pair.good for pair in sample_of(pairs, 4)] == ["0", "1", "10", "11", "20", "21", "30", "31"]
    assert sample_of(pairs, None) == sample_of(pairs, 100) == pairs
    few = sample_of([*pairs, *(MinimalPair(f"c{i}", "x", "c", "p") for i in range(5))], 3)
    assert [sum(pair.paradigm == paradigm for pair in few) for paradigm in "abc"] == [4, 4, 1]
    with pytest.raises(InvalidInputError, match="pairs_per_paradigm"):
        sample_of(pairs, 0)


def test_several_sets_are_plain_values_and_none_disturbs_another() -> None:
    alone, both = probed(ngrams=False), probed(PAIRS[:2], ngrams=False, other=PAIRS)
    assert alone["sets"][0] | {"name": "other"} == both["sets"][1]
    assert json.loads(json.dumps(both)) == both
    assert both["ngrams"] is None
    assert "kneser_ney" not in both["sets"][0]["total"]


def test_what_cannot_be_probed_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no pair"):
        probed([])
    with pytest.raises(InvalidInputError, match="no pair"):
        probe_minimal_pairs(model(), {})
    with pytest.raises(InvalidInputError, match="tokenizer"):
        probe_minimal_pairs(small_bert(), {"made": PAIRS})
