"""Is *Oslo* to *Norway* as *Athens* to *Greece*? Analogies solved by adding and subtracting embeddings.

`a` is to `b` as `c` is to which d? With unit vectors and s(x, y) = (cos(x, y) + 1) / 2:

    3CosAdd   argmax_d cos(d, b) − cos(d, a) + cos(d, c)                     Mikolov, Yih and Zweig 2013
    3CosMul   argmax_d s(d, b) s(d, c) / (s(d, a) + 0.001)                   Levy and Goldberg 2014, equation (4)

d is sought among all pieces that are words, and a, b and c are left out, as is usual; without that the answer is mostly
b or c itself, and so that score stands beside it. What remains may be due to nearness alone: the nearest neighbour of c
solves many questions (Linzen 2016, "Issues in evaluating semantic spaces using word analogies"), and stands here too.
Asked are the questions of which all four words are one piece.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.task_sets.analogies import Analogy, google_analogies
from mini_bert.errors import InvalidInputError
from mini_bert.inference.known_words import whole_word_id
from mini_bert.inference.sentence_embeddings import unit_vectors
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.inference.untrained import untrained_like
from mini_bert.metrics.clustered_means import sums_by_cluster
from mini_bert.metrics.proportions import clustered_wilson_interval

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece

_QUESTIONS_AT_ONCE = 128
"""Scores of all candidates held at a time: 4 MiB of float64 for each formula at 4,000 candidates."""

METHODS = ("3CosAdd", "3CosMul", "nearest to c")


def probe_analogies(model: MiniBERT, questions: Sequence[Analogy] | None = None) -> dict[str, Any]:
    """Share of analogies solved by the table of token embeddings, in all, by group and by section.

    Args:
        model: with a tokenizer.
        questions: Google's by default.

    Raises:
        InvalidInputError: no tokenizer, or no question whose four words are one piece each.
        DataError: Google's are not there and cannot be fetched.
    """
    tokenizer = tokenizer_of(model)
    questions = google_analogies() if questions is None else questions
    ids_Q4, asked = _in_one_piece(tokenizer, questions)
    if not asked:
        raise InvalidInputError("questions", got="none whose words are one piece each", expected="at least one")
    candidates = _words(tokenizer, ids_Q4)
    places_Q4 = np.searchsorted(candidates, ids_Q4)
    hits = solved(model.parameters["token_embeddings"][candidates], places_Q4)
    first = solved(untrained_like(model).parameters["token_embeddings"][candidates], places_Q4)
    hits["untrained, 3CosAdd"] = first["3CosAdd"]
    questions_of = Counter(group for question in questions for group in _groups(question))
    first_pairs = np.array([f"{question.section} {question.a} {question.b}" for question in asked])
    lines = []
    for group in dict.fromkeys(("all", "knowledge", "grammar", *(question.section for question in questions))):
        chosen = np.array([group in _groups(question) for question in asked])
        methods = hits if chosen.any() else {}
        lines.append(
            {
                "group": group,
                "questions": questions_of[group],
                "n": int(chosen.sum()),
                "accuracy": [_share(method, hits[method][chosen], first_pairs[chosen]) for method in methods],
            }
        )
    return {"kind": "analogies", "candidates": len(candidates), "groups": lines}


def _groups(question: Analogy) -> tuple[str, str, str]:
    """Those that a question counts in."""
    return "all", "grammar" if question.grammatical else "knowledge", question.section


def solved(vectors: NDArray[np.floating], places_Q4: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which of Q questions, as places in `vectors` [C, H], are solved, by the name of the method; ties are not.

    The methods that end in `, all kept` choose among a, b and c too.
    """
    unit_CH = unit_vectors(np.asarray(vectors, np.float64))
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for start in range(0, len(places_Q4), _QUESTIONS_AT_ONCE):
        places = places_Q4[start : start + _QUESTIONS_AT_ONCE]
        a, b, c = (unit_CH[places[:, i]] @ unit_CH.T for i in range(3))
        scores = {
            "3CosAdd": b - a + c,
            "3CosMul": (b + 1) * (c + 1) / (2 * (a + 1) + 0.004),
            "nearest to c": c,
        }
        rows = np.arange(len(places))
        for name, values_QC in scores.items():
            if name != "nearest to c":
                found.setdefault(f"{name}, all kept", []).append(_strictly_best(values_QC, places[:, 3]))
            values_QC[rows[:, None], places[:, :3]] = -np.inf
            found.setdefault(name, []).append(_strictly_best(values_QC, places[:, 3]))
    names = (*METHODS, *(f"{name}, all kept" for name in METHODS[:2]))
    return {name: np.concatenate(found[name]) for name in names}


def _strictly_best(scores_QC: NDArray[np.floating], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    at_right = scores_QC[np.arange(len(right)), right]
    return np.asarray(np.count_nonzero(scores_QC >= at_right[:, None], axis=1) == 1)


def _in_one_piece(tokenizer: WordPiece, questions: Sequence[Analogy]) -> tuple[NDArray[np.int64], list[Analogy]]:
    """The words' ids [Q, 4] of the questions that can be asked, and these questions.

    All four words must be one piece each, and the answer another piece than the three that are given.
    """
    words = {word for question in questions for word in question[1:]}
    ids = {word: id for word in words if (id := whole_word_id(tokenizer, word)) is not None}
    asked = [
        question
        for question in questions
        if all(word in ids for word in question[1:]) and ids[question.d] not in [ids[word] for word in question[1:4]]
    ]
    return np.array([[ids[word] for word in question[1:]] for question in asked], np.int64), asked


def _words(tokenizer: WordPiece, ids_Q4: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ids, ascending, of the pieces that are words, with those of the questions."""
    alphabetic = [number for number, piece in enumerate(tokenizer.vocabulary) if piece.isalpha() and len(piece) > 1]
    return np.union1d(np.array(alphabetic, np.int64), ids_Q4)


def _share(method: str, hits: NDArray[np.bool_], first_pairs: NDArray[np.str_]) -> dict[str, Any]:
    """The share of hits; questions that share their first pair stand or fall together."""
    interval = clustered_wilson_interval(*sums_by_cluster(hits, first_pairs))
    return {"by": method, "value": float(hits.mean()), "interval": list(interval)}
