"""Pairs of sentences with people's judgement of how near their meanings are: STS-B and SICK.

STS Benchmark (Cer et al. 2017): captions, headlines and forum posts, 0 to 5. SICK (Marelli et al. 2014): captions
changed by rule so that composition decides, 1 to 5, with an entailment judgement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from mini_bert.data.task_sets.columns import fetched, number_of, rows_of
from mini_bert.errors import DataError

Split = Literal["train", "dev", "test"]

_SICK_FILES = {"train": "SICK_train.txt", "dev": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}

JUDGEMENTS = ("ENTAILMENT", "NEUTRAL", "CONTRADICTION")
"""What SICK says of a pair."""


class SentencePair(NamedTuple):
    """Two sentences and how near people find their meanings; the scale is the set's own."""

    first: str
    second: str
    score: float
    judgement: str = ""
    """SICK's, of `first` to `second`; empty in STS-B."""


def read_stsb(path: Path) -> list[SentencePair]:
    """STS-B's seven columns: genre, file, year, number, score, and the two sentences; more of them are sources.

    Raises:
        DataError: the file cannot be read so.
    """
    return [
        SentencePair(first, second, number_of(score, f"{path}:{number}"))
        for number, (*_, score, first, second) in rows_of(path, 7)
    ]


def read_sick(path: Path) -> list[SentencePair]:
    """SICK's five columns below their names: number, two sentences, score, judgement.

    Raises:
        DataError: the file cannot be read so, or a judgement is unknown.
    """
    pairs = []
    for number, (name, first, second, score, judgement) in rows_of(path, 5):
        if name == "pair_ID":
            continue
        if judgement not in JUDGEMENTS:
            raise DataError(f"{path}:{number}", got=f"'{judgement}'", expected=" or ".join(JUDGEMENTS))
        pairs.append(SentencePair(first, second, number_of(score, f"{path}:{number}"), judgement))
    if not pairs:
        raise DataError(str(path), got="no pair", expected="pairs of sentences")
    return pairs


def read_sentence_pairs(path: Path) -> list[SentencePair]:
    """A table of one's own: `sentence <tab> sentence <tab> score` on each line.

    Raises:
        DataError: the file cannot be read so.
    """
    return [
        SentencePair(first, second, number_of(score, f"{path}:{number}"))
        for number, (first, second, score) in rows_of(path, 3)
    ]


def stsb(split: Split = "test") -> list[SentencePair]:
    """STS-B: 5,749, 1,500 and 1,379 pairs.

    Raises:
        DataError: the file is not there and cannot be fetched.
    """
    return read_stsb(*fetched("stsb", f"sts-{split}.csv"))


def sick(split: Split = "test") -> list[SentencePair]:
    """SICK: 4,500, 500 and 4,927 pairs.

    Raises:
        DataError: the file is not there and cannot be fetched.
    """
    return read_sick(*fetched("sick", _SICK_FILES[split]))
