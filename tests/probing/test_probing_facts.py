"""Facts: ranks, majority answers and consistency beside loops over the definition."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from worded_bert import worded_bert

from mini_bert.data.task_sets.facts import Fact, Question, Relation
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.model.bert import MiniBERT
from mini_bert.probing import facts
from mini_bert.probing.cloze_ranks import cloze_ranks
from mini_bert.probing.facts import probe_factual_knowledge
from mini_bert.reports.pages import tables

CAPITALS = Relation(
    "P36",
    "capital",
    ("The capital of [X] is [Y].", "[Y] is the capital of [X]", "[X], capital: [Y]."),
    (
        Fact("France", "Paris"),
        Fact("Italy", "Rome"),
        Fact("the boy", "Rome"),
        Fact("Norway", "Oslo"),
        Fact("Norway", "Paris"),
        Fact("Peru", "Lima"),
        Fact("the man of Rome", "Rome"),
        Fact("Paris and Oslo", "Oslo"),
        Fact("the king of Paris and Oslo", "Rome"),
        Fact("the queen", "Rome"),
    ),
)
HOMES = Relation(
    "P19", "birth", ("[X] was born in [Y].", "In [Y] [X] was born."), (Fact("He", "Oslo"), Fact("She", "Rome"))
)
LONELY = Relation("P0", "nothing", ("[X] is [Y].", "[Y] is [X]."), (Fact("Peru", "Lima"),))
SQUAD = [
    Question("The old [MASK] is sleeping.", "dog"),
    Question("He saw [MASK].", "Lima"),
    Question("A [MASK] cat.", "tall"),
]


def scores(model: MiniBERT, text: str) -> np.ndarray:
    """[V] at the mask, from a pass of the text by itself."""
    ids, _ = model.tokenizer.encode_row(text)
    logits, _ = model.forward([ids])
    return logits[0, ids.index(model.tokenizer.mask_id)]


def rank(values: np.ndarray, answer: int, among, without=()) -> int:
    return 1 + sum(values[i] >= values[answer] for i in among if i != answer and i not in without)


def known(model: MiniBERT, relation: Relation) -> list[tuple[Fact, int]]:
    vocabulary = model.tokenizer.vocabulary
    return [(f, vocabulary.index(f.answer.lower())) for f in relation.facts if f.answer.lower() in vocabulary]


def test_ranks_agree_with_one_sentence_at_a_time():
    model = worded_bert()
    result = probe_factual_knowledge(model, lama=[CAPITALS, HOMES], squad=SQUAD, pararel=[CAPITALS, HOMES, LONELY])
    lama, squad, pararel = result["sets"]
    ranks, among, constant, copied, hidden = [], [], [], [], []
    for relation in (CAPITALS, HOMES):
        asked = known(model, relation)
        candidates = {answer for _, answer in asked}
        counts = Counter(answer for _, answer in asked)
        for fact, answer in asked:
            also = {other for f, other in asked if f.subject == fact.subject} - {answer}
            values = scores(model, relation.question(0, fact.subject))
            ranks.append(rank(values, answer, range(len(values)), also))
            among.append(rank(values, answer, candidates, also))
            order = sorted(candidates, key=lambda c: (-counts[c], c))  # one constant list of answers
            constant.append(1 + sum(order.index(c) < order.index(answer) for c in candidates - also))
            words = fact.subject.lower().split()
            named = [c for c in order if model.tokenizer.vocabulary[c] in words]
            copying = [*named, *(c for c in order if c not in named)]
            copied.append(1 + sum(copying.index(c) < copying.index(answer) for c in candidates - also))
            hidden.append(answer not in named)
    for set_ in (lama, pararel):
        assert (set_["n"], set_["one_piece"]) == (11, 11)
        by = {line["by"]: line for line in set_["scores"]}
        for name, values in (
            ("model", ranks),
            ("model, among candidates", among),
            ("majority answer", constant),
            ("named in the subject, else majority", copied),
            ("model, answer not in the subject", [r for r, alone in zip(ranks, hidden, strict=True) if alone]),
            ("majority answer, answer not in the subject", [r for r, h in zip(constant, hidden, strict=True) if h]),
        ):
            assert by[name]["n"] == len(values)
            assert by[name]["top1"] == pytest.approx(np.mean([r == 1 for r in values]))
            assert by[name]["top5"] == pytest.approx(np.mean([r <= 5 for r in values]))
            assert by[name]["mrr"] == pytest.approx(np.mean([1 / r for r in values]))
    assert (squad["n"], squad["facts"]) == (2, 3)
    assert (lama["facts"], pararel["facts"]) == (12, 13)
    assert [line["n"] for line in pararel["relations"]] == [9, 2, 0]
    assert len(tables(result)) == 4


def test_consistency_agrees_with_loops_over_pairs_of_ways():
    model = worded_bert(seed=2)
    found = probe_factual_knowledge(model, lama=[], squad=[], pararel=[CAPITALS, HOMES])["sets"][2]
    same, every_way, some_way = [], [], []
    for relation in (CAPITALS, HOMES):
        asked = known(model, relation)
        candidates = sorted({answer for _, answer in asked})
        for fact, answer in asked:
            also = {other for f, other in asked if f.subject == fact.subject} - {answer}
            open_ = [c for c in candidates if c not in also]
            said = [
                max(open_, key=scores(model, relation.question(way, fact.subject)).__getitem__)
                for way in range(len(relation.patterns))
            ]
            same.append(np.mean([a == b for a, b in combinations(said, 2)]))
            every_way.append(all(one == answer for one in said))
            some_way.append(any(one == answer for one in said))
    assert found["consistency"]["value"] == pytest.approx(np.mean(same))
    assert found["all_ways"]["value"] == pytest.approx(np.mean(every_way))
    assert found["any_way"]["value"] == pytest.approx(np.mean(some_way))


def test_nothing_to_ask_is_no_error_and_no_number():
    result = probe_factual_knowledge(worded_bert(), lama=[LONELY], squad=[], pararel=[])
    assert [one["n"] for one in result["sets"]] == [0, 0, 0]
    assert all(one["scores"] == [] for one in result["sets"])
    assert result["sets"][2]["consistency"]["value"] is None
    assert tables(result)[0].rows == ()


def test_quick_asks_fewer_and_knows_the_same_majority(monkeypatch):
    monkeypatch.setattr(facts, "QUICK_FACTS", 2)
    many = Relation(
        "P1", "", ("[X] is [Y].",), tuple(Fact("the " + "ab"[i % 2] * i, ["dog", "cat"][i > 7]) for i in range(1, 12))
    )
    monkeypatch.setattr(facts._in_one_piece, "__defaults__", (2,))
    (line,) = probe_factual_knowledge(worded_bert(), lama=[many], squad=[], pararel=[], quick=True)["sets"][0][
        "relations"
    ]
    assert (line["n"], line["one_piece"]) == (2, 11)
    assert line["majority"] == 0.5  # the first is dog, the last cat; dog is more frequent


def test_a_long_text_is_cut_around_its_mask():
    model = worded_bert()
    words = ["the man saw the dog"] * 6
    text = " ".join([*words, "[MASK]", *words])
    dog = model.tokenizer.id("dog")
    tokens = model.tokenizer.encode(text).ids
    at = tokens.index(model.tokenizer.mask_id)
    ids = [model.tokenizer.cls_id, *tokens[at - 7 : at + 7], model.tokenizer.sep_id]
    logits, _ = model.forward([ids])
    found = cloze_ranks(model, [text], np.array([dog]), [np.array([dog])], np.array([0]), [[]])
    assert found.among_all.tolist() == [rank(logits[0, 8], dog, range(logits.shape[2]))]
    assert found.among_candidates.tolist() == [1]


def test_what_cannot_be_asked_is_refused():
    model = worded_bert()
    one = np.array([6])
    for texts in (["no mask"], ["[MASK] and [MASK]"]):
        with pytest.raises(InvalidInputError, match=r"\[MASK\] in text 0"):
            cloze_ranks(model, texts, one, [one], np.array([0]), [[]])
    with pytest.raises(InvalidInputError, match="no candidate"):
        cloze_ranks(model, ["[MASK]"], one, [np.array([7])], np.array([0]), [[]])
    with pytest.raises(InvalidInputError, match="head"):
        probe_factual_knowledge(worded_bert(heads=()), lama=[], squad=[], pararel=[])
    with pytest.raises(InvalidInputError, match="tokenizer"):
        probe_factual_knowledge(MiniBERT(model.config), lama=[], squad=[], pararel=[])
    model.parameters.buffer[...] *= 1e300
    with pytest.raises(NonFiniteError):
        cloze_ranks(model, ["[MASK]"], one, [one], np.array([0]), [[]])
