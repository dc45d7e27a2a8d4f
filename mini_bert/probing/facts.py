"""What does it know of the world? Facts as sentences with a gap: LAMA and ParaRel.

Asked are the facts whose answer is one piece of the vocabulary, since one [MASK] takes one piece; how many these are is
said for each relation. An answer is ranked among all pieces, and among the answers that this relation has in the set
(the candidates, as Elazar et al. 2021 do). What else is true of the same subject is taken out of the ranking first
(Petroni et al. 2019, section 4.6), and a tie counts against the answer.

    MRR = mean of 1 / rank

Two baselines need no knowledge. The first names the relation's most frequent answers, whatever the subject; it is given
these frequencies from the set itself. The second names first what stands in the subject (the language of *Radio Sweden
International*), and then these: a model that beats the first alone may only copy (Poerner et al. 2020, "E-BERT"). So
the facts whose answer is no word of the subject are scored once more by themselves.

Over the P ways of ParaRel to ask for one fact (Elazar et al. 2021, "Measuring and improving consistency in pretrained
language models", section 3): consistency is the share of the P (P − 1) / 2 pairs of ways with the same first candidate;
a fact is known whichever way it is asked where all P give the answer. A constant answer is wholly consistent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import evenly_spaced
from mini_bert.data.task_sets.facts import Fact, Question, Relation, lama_relations, lama_squad, pararel_relations
from mini_bert.inference.known_words import whole_word_id, whole_words
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.metrics.clustered_means import clustered_mean
from mini_bert.metrics.proportions import clustered_wilson_interval, wilson_interval
from mini_bert.probing.cloze_ranks import ClozeRanks, cloze_ranks

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT

QUICK_FACTS = 10
"""Facts of a relation with `quick`, and ten times as many questions of SQuAD."""


class _Asked(NamedTuple):
    """The facts of a relation whose answer is one piece."""

    relation: Relation
    facts: list[Fact]
    answers: NDArray[np.int64]
    """[n] ids"""
    candidates: NDArray[np.int64]
    """[C] ids, ascending"""
    counts: NDArray[np.int64]
    """[C] how many facts of the relation each candidate answers, whether these are asked or not"""
    also_true: list[list[int]]
    """ids of the other answers of the same subject"""
    named: list[list[int]]
    """ids of the candidates that are words of the subject"""


def probe_factual_knowledge(
    model: MiniBERT,
    *,
    lama: Sequence[Relation] | None = None,
    squad: Sequence[Question] | None = None,
    pararel: Sequence[Relation] | None = None,
    quick: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Top 1, top 5 and MRR of LAMA's and ParaRel's facts beside the majority answer, and consistency over paraphrases.

    Args:
        model: with a tokenizer and an MLM head.
        lama: relations with one pattern; the published ones by default.
        squad: questions without relation; the published ones by default.
        pararel: relations with several patterns; the published ones by default.
        quick: 10 facts of a relation, and 100 questions without relation, evenly spaced.
        threads: worker threads; they change the time, never the result.
        progress: is told how many questions are answered.

    Raises:
        InvalidInputError: no tokenizer or no MLM head.
        DataError: the published sets are not there and cannot be fetched.
    """
    tokenizer_of(model)  # refused before the sets are read
    model.parameters.require_head("mlm")
    lama = lama_relations() if lama is None else lama
    squad = lama_squad() if squad is None else squad
    pararel = pararel_relations() if pararel is None else pararel
    return {
        "kind": "facts",
        "sets": [
            _one_way(model, "LAMA T-REx", lama, quick, threads, progress),
            _sentences(model, "LAMA SQuAD", squad, quick, threads, progress),
            _many_ways(model, "ParaRel", pararel, quick, threads, progress),
        ],
    }


def _one_way(
    model: MiniBERT,
    name: str,
    relations: Sequence[Relation],
    quick: bool,
    threads: int | None,
    progress: Progress | None,
) -> dict[str, Any]:
    every = _in_one_piece(model, relations, quick)
    asked = [one for one in every if one.facts]
    found = _answer(model, name, asked, [[0] * len(one.facts) for one in asked], threads, progress)
    return {"set": name, "relations": _by_relation(asked, every, found), **_totals(asked, found, relations)}


def _many_ways(
    model: MiniBERT,
    name: str,
    relations: Sequence[Relation],
    quick: bool,
    threads: int | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """As `_one_way` by the first pattern, with what all patterns say of each other."""
    every = _in_one_piece(model, [relation for relation in relations if len(relation.patterns) > 1], quick)
    asked = [one for one in every if one.facts and len(one.candidates) > 1]
    ways = [len(one.relation.patterns) for one in asked]
    repeated = [
        _Asked(
            one.relation,
            [fact for fact in one.facts for _ in range(P)],
            np.repeat(one.answers, P),
            one.candidates,
            one.counts,
            [others for others in one.also_true for _ in range(P)],
            [words for words in one.named for _ in range(P)],
        )
        for one, P in zip(asked, ways, strict=True)
    ]
    patterns = [[way for _ in one.facts for way in range(P)] for one, P in zip(asked, ways, strict=True)]
    found = _answer(model, name, repeated, patterns, threads, progress)
    first = [ranks.every(P) for ranks, P in zip(found, ways, strict=True)]
    lines = _by_relation(asked, every, first)
    agreeing, all_right, one_right = [], [], []
    for line, one, ranks, P in zip([line for line in lines if line["n"]], asked, found, ways, strict=True):
        said = ranks.best_candidates.reshape(len(one.facts), P)
        right = said == one.answers[:, None]
        same = np.array([_pairs_alike(row) for row in said])
        agreeing.append(same)
        all_right.append(right.all(axis=1))
        one_right.append(right.any(axis=1))
        line |= {"patterns": P, "consistency": float(same.mean()), "all_ways": float(right.all(axis=1).mean())}
    return {
        "set": name,
        "relations": lines,
        **_totals(asked, first, relations),
        "consistency": _mean_of(agreeing),
        "all_ways": _share_of(all_right),
        "any_way": _share_of(one_right),
    }


def _sentences(
    model: MiniBERT,
    name: str,
    questions: Sequence[Question],
    quick: bool,
    threads: int | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Questions that belong to no relation: each word that is an answer is a candidate."""
    relation = Relation(name, "", ("[X]",), tuple(dict.fromkeys(Fact(q.text, q.answer) for q in questions)))
    (one,) = every = _in_one_piece(model, [relation], quick, 10 * QUICK_FACTS)
    asked = [one] if one.facts else []
    found = _answer(model, name, asked, [[0] * len(one.facts) for one in asked], threads, progress)
    return {"set": name, "relations": _by_relation(asked, every, found), **_totals(asked, found, [relation])}


def _in_one_piece(
    model: MiniBERT, relations: Sequence[Relation], quick: bool, wanted: int = QUICK_FACTS
) -> list[_Asked]:
    tokenizer = tokenizer_of(model)
    found = []
    for relation in relations:
        words = {fact.answer for fact in relation.facts}
        answers = {word: id for word in words if (id := whole_word_id(tokenizer, word)) is not None}
        facts = [fact for fact in relation.facts if fact.answer in answers]
        true: dict[str, set[int]] = {}
        for fact in facts:
            true.setdefault(fact.subject, set()).add(answers[fact.answer])
        every = np.array([answers[fact.answer] for fact in facts], np.int64)
        candidates, counts = np.unique(every, return_counts=True)
        if quick:
            facts = evenly_spaced(facts, wanted)
        ids = np.array([answers[fact.answer] for fact in facts], np.int64)
        also = [sorted(true[fact.subject] - {int(answer)}) for fact, answer in zip(facts, ids, strict=True)]
        possible = set(candidates.tolist())
        named = [sorted(possible & whole_words(tokenizer, fact.subject)) for fact in facts]
        found.append(_Asked(relation, facts, ids, candidates, counts, also, named))
    return found


def _answer(
    model: MiniBERT,
    name: str,
    asked: Sequence[_Asked],
    patterns: Sequence[Sequence[int]],
    threads: int | None,
    progress: Progress | None,
) -> list[ClozeRanks]:
    """The ranks of each relation's answers, asked by the pattern of each."""
    texts = [
        one.relation.question(pattern, fact.subject)
        for one, ways in zip(asked, patterns, strict=True)
        for fact, pattern in zip(one.facts, ways, strict=True)
    ]
    sizes = [len(one.facts) for one in asked]
    if not texts:
        return []
    ranks = cloze_ranks(
        model,
        texts,
        np.concatenate([one.answers for one in asked]),
        [one.candidates for one in asked],
        np.repeat(np.arange(len(asked)), sizes),
        [others for one in asked for others in one.also_true],
        threads=threads,
        progress=None if progress is None else lambda done, total: progress(name, done, total),
    )
    return ranks.split(sizes)


def _by_relation(asked: Sequence[_Asked], every: Sequence[_Asked], found: Sequence[ClozeRanks]) -> list[dict[str, Any]]:
    ranks = {one.relation.name: ranks for one, ranks in zip(asked, found, strict=True)}
    lines = []
    for one in every:
        line: dict[str, Any] = {
            "relation": one.relation.name,
            "label": one.relation.label,
            "facts": len(one.relation.facts),
            "one_piece": int(one.counts.sum()),
            "n": len(one.facts) if one.relation.name in ranks else 0,
            "candidates": len(one.candidates),
        }
        if line["n"]:
            hits = ranks[one.relation.name].among_all == 1
            line |= {
                "top1": float(hits.mean()),
                "top1_interval": list(wilson_interval(int(hits.sum()), len(hits))),
                "majority": float((_majority_ranks(one) == 1).mean()),
                "among_candidates": float((ranks[one.relation.name].among_candidates == 1).mean()),
            }
        lines.append(line)
    return lines


def _totals(asked: Sequence[_Asked], found: Sequence[ClozeRanks], relations: Sequence[Relation]) -> dict[str, Any]:
    """Over all facts; those of one relation stand or fall together in the intervals."""
    total: dict[str, Any] = {
        "facts": sum(len(relation.facts) for relation in relations),
        "one_piece": sum(int(one.counts.sum()) for one in asked),
        "n": sum(len(one.facts) for one in asked),
        "scores": [],
    }
    if not asked:
        return total
    ours = [one.among_all for one in found]
    majority = [_majority_ranks(one) for one in asked]
    hidden = [
        np.array([answer not in words for answer, words in zip(one.answers.tolist(), one.named, strict=True)], bool)
        for one in asked
    ]
    ranks = {
        "model": ours,
        "majority answer": majority,
        "named in the subject, else majority": [_copied_ranks(one) for one in asked],
        "model, among candidates": [one.among_candidates for one in found],
        "model, answer not in the subject": [one[chosen] for one, chosen in zip(ours, hidden, strict=True)],
        "majority answer, answer not in the subject": [
            one[chosen] for one, chosen in zip(majority, hidden, strict=True)
        ],
    }
    for by, of_every_relation in ranks.items():
        values = [of_relation for of_relation in of_every_relation if len(of_relation)]
        line: dict[str, Any] = {"by": by, "n": sum(map(len, values))}
        for name, k in (("top1", 1), ("top5", 5)):
            line[name], line[f"{name}_interval"] = _share_of([one <= k for one in values]).values()
        line["mrr"], line["mrr_interval"] = _mean_of([1 / one for one in values]).values()
        total["scores"].append(line)
    return total


def _constant_order(one: _Asked) -> dict[int, int]:
    """The place of each candidate, from 1: by how often it is right, and of equals by its id."""
    order = one.candidates[np.lexsort((one.candidates, -one.counts))]
    return {candidate: rank for rank, candidate in enumerate(order.tolist(), start=1)}


def _majority_ranks(one: _Asked) -> NDArray[np.int64]:
    """Ranks of the answers in the one constant order."""
    place = _constant_order(one)
    ranks = [
        place[answer] - sum(place[other] < place[answer] for other in others)
        for answer, others in zip(one.answers.tolist(), one.also_true, strict=True)
    ]
    return np.array(ranks, np.int64)


def _copied_ranks(one: _Asked) -> NDArray[np.int64]:
    """Ranks of the answers where what the subject names comes first, and all else in the constant order."""
    place, ranks = _constant_order(one), []
    for answer, others, words in zip(one.answers.tolist(), one.also_true, one.named, strict=True):
        rivals = [word for word in words if word != answer and word not in others]
        if answer in words:
            ranks.append(1 + sum(place[word] < place[answer] for word in rivals))
        else:
            before = place[answer] - sum(place[other] < place[answer] for other in others)
            ranks.append(before + sum(place[word] > place[answer] for word in rivals))
    return np.array(ranks, np.int64)


def _pairs_alike(said: NDArray[np.int64]) -> float:
    """Of all pairs, the share that are equal."""
    counts = np.unique(said, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (len(said) * (len(said) - 1)))


def _share_of(by_relation: Sequence[NDArray[np.bool_]]) -> dict[str, Any]:
    sums, sizes = [int(one.sum()) for one in by_relation], [len(one) for one in by_relation]
    if not sizes:
        return {"value": None, "interval": None}
    if len(sizes) == 1:
        return {"value": sums[0] / sizes[0], "interval": list(wilson_interval(sums[0], sizes[0]))}
    return {"value": sum(sums) / sum(sizes), "interval": list(clustered_wilson_interval(sums, sizes))}


def _mean_of(by_relation: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    if not by_relation:
        return {"value": None, "interval": None}
    groups = by_relation if len(by_relation) > 1 else [np.array([value]) for value in by_relation[0]]
    mean = clustered_mean([float(one.sum()) for one in groups], [len(one) for one in groups])
    return {"value": mean.mean, "interval": [max(0.0, mean.interval.low), min(1.0, mean.interval.high)]}
