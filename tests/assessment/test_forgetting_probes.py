"""The probes of forgetting give the accuracies of the probes that they stand for, and say when they cannot."""

from __future__ import annotations

import pytest
from worded_bert import worded_bert

from mini_bert.assessment import forgetting_probes as module
from mini_bert.assessment.forgetting_probes import forgetting_probes
from mini_bert.data.task_sets.minimal_pairs import MinimalPair
from mini_bert.data.task_sets.treebanks import TaggedSentence, Treebank
from mini_bert.errors import DataError, MissingExtraError
from mini_bert.probing.minimal_pairs import probe_minimal_pairs
from mini_bert.probing.part_of_speech import probe_part_of_speech

SENTENCES = [
    TaggedSentence(("the", noun, "saw", "the", other), ("DET", "NOUN", "VERB", "DET", "NOUN"))
    for noun, other in (("man", "dog"), ("dog", "man"), ("man", "man"), ("dog", "dog")) * 10
]
BANK = Treebank("made", ("DET", "NOUN", "VERB"), SENTENCES[:20], SENTENCES[20:30], SENTENCES[30:])
PAIRS = [
    MinimalPair(f"the {noun} saw the dog .", f"the {noun} the saw dog .", paradigm, "order")
    for noun in ("man", "dog")
    for paradigm in ("one", "two")
]


def test_accuracies_are_those_of_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "treebank", {"ud-ewt": BANK}.__getitem__)
    monkeypatch.setattr(module, "published_pairs", {"blimp": PAIRS}.__getitem__)
    model = worded_bert()
    probes = forgetting_probes(1)
    assert list(probes) == ["parts of speech", "BLiMP"]
    of_words = {line["name"]: line["accuracy"] for line in probe_part_of_speech(model, BANK, quick=True)["table"]}
    (of_pairs,) = probe_minimal_pairs(model, {"blimp": PAIRS})["sets"]
    assert probes["parts of speech"](model) == of_words["model"]
    assert probes["BLiMP"](model) == of_pairs["total"]["pll"]["accuracy"]


def test_what_cannot_be_asked_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_extra(name: str) -> Treebank:
        raise MissingExtraError("conllu", got="not installed", expected="the extra `probes`")

    def without_network(name: str) -> list[MinimalPair]:
        raise DataError(f"data set '{name}'", got="no network", expected="the file")

    monkeypatch.setattr(module, "treebank", without_extra)
    monkeypatch.setattr(module, "published_pairs", without_network)
    said: dict[str, str] = {}
    assert forgetting_probes(1, said.__setitem__) == {}
    assert "conllu" in said["parts of speech"]
    assert "no network" in said["BLiMP"]
