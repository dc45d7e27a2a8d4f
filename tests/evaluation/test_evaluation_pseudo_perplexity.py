"""Pseudo-perplexity against its definition."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.errors import DataError, InvalidInputError
from mini_bert.evaluation.pseudo_perplexity import pseudo_perplexity, pseudo_perplexity_of_text
from mini_bert.inference.pseudo_likelihood import Scored, pseudo_log_likelihoods
from mini_bert.metrics.clustered_means import clustered_mean
from mini_bert.text.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "##d", "e", "f", "##g", "."]
DOCUMENTS = [[[5, 7, 8, 12], []], [[9, 1, 6]], [[5, 12], [10, 11, 9, 12]], [[]]]


def model():
    made = small_bert()
    made.tokenizer = WordPiece(PIECES)
    return made


def nats(within_word: bool) -> list[list[float]]:
    """Of each sentence, document by document."""
    return [
        [
            -float(pseudo_log_likelihoods(model(), [Scored(ids, within_word=within_word)])[0].sum())
            for ids in document
            if ids
        ]
        for document in DOCUMENTS
    ]


def test_it_is_the_definition_with_pieces_and_words() -> None:
    result = pseudo_perplexity(model(), DOCUMENTS)
    assert [(score["way"], score["per"]) for score in result["scores"]] == [
        (way, per) for way in ("plain", "within_word") for per in ("piece", "word")
    ]
    sizes = {"piece": [[4], [3], [2, 4]], "word": [[2], [3], [2, 3]]}
    for score in result["scores"]:
        lost, size = nats(score["way"] == "within_word")[:3], sizes[score["per"]]
        mean = sum(map(sum, lost)) / sum(map(sum, size))
        assert score["nats"] == pytest.approx(mean)
        assert score["perplexity"] == pytest.approx(math.exp(mean))
        over_documents = clustered_mean(list(map(sum, lost)), list(map(sum, size)))
        assert score["interval"] == pytest.approx(np.exp(over_documents.interval).tolist())
    assert (result["pieces"], result["words"], result["documents"], result["sentences"]) == (13, 10, 3, 4)
    assert result["unknown_share"] == pytest.approx(1 / 13)
    assert json.loads(json.dumps(result)) == result


def test_some_sentences_are_evenly_spread() -> None:
    some = pseudo_perplexity(model(), [[[5, 12]] * 50, [[6, 12]] * 50], sentences=2)
    assert (some["sentences"], some["of_sentences"], some["documents"]) == (2, 100, 2)
    alone = pseudo_perplexity(model(), [[[5, 12]]])
    assert alone["scores"][0]["interval"] == [None, None], "of one document nothing is known about the spread"


def test_a_text_file_and_its_held_out_twin_agree(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("acd .\n\nE x b.")
    result = pseudo_perplexity_of_text(model(), str(path))
    assert result["corpus"] == str(path)
    assert result["pieces"] == 8
    expected = pseudo_perplexity(model(), [[[5, 7, 8, 12], [9, 1, 6, 12]]])
    assert result["scores"][0]["nats"] == pytest.approx(expected["scores"][0]["nats"])


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no sentence"):
        pseudo_perplexity(model(), [[[]]])
    with pytest.raises(InvalidInputError, match="sentences"):
        pseudo_perplexity(model(), DOCUMENTS, sentences=0)
    with pytest.raises(InvalidInputError, match="tokenizer"):
        pseudo_perplexity(small_bert(), DOCUMENTS)
    with pytest.raises(InvalidInputError, match="tokenizer"):
        pseudo_perplexity_of_text(small_bert(), "novels")
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(DataError):
        pseudo_perplexity_of_text(model(), str(empty))
    with pytest.raises(DataError):
        pseudo_perplexity_of_text(model(), str(tmp_path / "none.txt"))
