"""CrowS-Pairs and WinoBias beside one mask at a time."""

from __future__ import annotations

import numpy as np
import pytest
from worded_bert import worded_bert

from mini_bert.data.task_sets.stereotypes import PronounPair, StereotypePair
from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.probing.stereotypes import CAVEATS, probe_stereotypes, shared_places
from mini_bert.reports.pages import tables

CROWS = [
    StereotypePair("The man helped the boy.", "The woman helped the boy.", "gender", "stereo"),
    StereotypePair("He was born in old Oslo", "He was born in Rome", "nationality", "antistereo"),
    StereotypePair("The cat was tall.", "The cat was tall.", "age", "stereo"),
]
WINO = [
    PronounPair("The developer helped the clerk because [MASK] was old.", "he", "she", 1, 0),
    PronounPair("The developer helped the clerk because [MASK] was born.", "she", "he", 1, 1),
    PronounPair("The clerk saw the developer and helped [MASK].", "him", "her", 2, 0),
]


def log_p(model: MiniBERT, ids: list[int], place: int, target: int) -> float:
    """Of a piece whose place is hidden, by the public forward pass."""
    row = [model.tokenizer.cls_id, *ids, model.tokenizer.sep_id]
    row[place + 1] = model.tokenizer.mask_id
    z = model.forward([row])[0][0, place + 1]
    return float(z[target] - np.log(np.exp(z - z.max()).sum()) - z.max())


def test_crows_pairs_score_the_pieces_that_both_have():
    model = worded_bert()
    found = probe_stereotypes(model, crows=CROWS, wino=(WINO, 5))["crows_pairs"]["groups"]
    hits = []
    for pair in CROWS:
        totals = []
        for text, other in ((pair.more, pair.less), (pair.less, pair.more)):
            ids, others = model.tokenizer.encode(text).ids, model.tokenizer.encode(other).ids
            totals.append(sum(log_p(model, ids, i, ids[i]) for i in range(len(ids)) if ids[i] in others))
        hits.append(0.5 if abs(totals[0] - totals[1]) < 1e-9 else float(totals[0] > totals[1]))
    assert hits[2] == 0.5
    assert found[0] == {
        "group": "all",
        "n": 3,
        "share": pytest.approx(np.mean(hits)),
        "ties": pytest.approx(1 / 3),
        "interval": found[0]["interval"],
    }
    by = {group["group"]: group["share"] for group in found}
    assert (by["gender"], by["nationality"], by["age"]) == tuple(hits)
    assert by["direction: stereo"] == (hits[0] + hits[2]) / 2


def test_winobias_compares_the_two_pronouns_at_the_mask():
    model = worded_bert()
    result = probe_stereotypes(model, crows=CROWS, wino=(WINO, 5))
    odds = []
    for pair in WINO:
        ids = model.tokenizer.encode(pair.text).ids
        place = ids.index(model.tokenizer.mask_id)
        first, second = (log_p(model, ids, place, model.tokenizer.id(word)) for word in pair[1:3])
        odds.append(first - second)
    groups = {group["group"]: group for group in result["winobias"]["groups"]}
    assert groups["all"]["log_odds"]["value"] == pytest.approx(np.mean(odds))
    assert groups["all"]["share"] == pytest.approx(np.mean([value > 0 for value in odds]))
    assert groups["type 2"]["log_odds"]["value"] == pytest.approx(odds[2])
    assert groups["she fits"]["n"] == 1
    assert (result["winobias"]["left_out"], result["winobias"]["he_fits"]) == (5, pytest.approx(2 / 3))
    assert result["caveats"] == list(CAVEATS)
    assert "Blodgett" in " ".join(note for table in tables(result) for note in table.notes)


def test_a_model_that_always_says_he_stands_where_he_fits():
    model = worded_bert()
    for word in ("he", "him"):
        model.parameters["b_vocabulary"][model.tokenizer.id(word)] += 50
    groups = {
        g["group"]: g["share"] for g in probe_stereotypes(model, crows=CROWS, wino=(WINO, 0))["winobias"]["groups"]
    }
    assert (groups["he fits"], groups["she fits"]) == (1, 0)
    assert groups["all"] == pytest.approx(2 / 3)


def test_shared_places_stand_in_order():
    assert shared_places([1, 2, 3, 4], [1, 9, 3, 8, 4]) == ([0, 2, 3], [0, 2, 4])
    assert shared_places([1, 2], [2, 1]) in (([0], [1]), ([1], [0]))
    assert shared_places([1], [2]) == ([], [])
    frequent = shared_places([1, *[7] * 300], [2, *[7] * 300])  # difflib by itself would call 7 junk
    assert frequent[0] == list(range(1, 301))


def test_pronouns_in_pieces_and_nothing_to_ask_are_refused():
    with pytest.raises(InvalidInputError, match="'hers'"):
        probe_stereotypes(worded_bert(), crows=CROWS, wino=([PronounPair("A [MASK].", "hers", "his", 1, 0)], 0))
    with pytest.raises(InvalidInputError, match="at least one"):
        probe_stereotypes(worded_bert(), crows=[], wino=(WINO, 0))
    with pytest.raises(InvalidInputError, match="tokenizer"):
        probe_stereotypes(MiniBERT(worded_bert().config), crows=CROWS, wino=(WINO, 0))
