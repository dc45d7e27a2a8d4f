"""Pairs of words with people's judgement of how near they are: WordSim-353, SimLex-999, MEN and RG-65.

The four do not ask the same. SimLex (Hill, Reichart and Korhonen 2015) asks for similarity alone: *clothes* and
*closet* are far apart there. MEN (Bruni, Tran and Baroni 2014) asks for relatedness; WordSim-353 (Finkelstein et al.
2002) mixes both, and its two parts take them apart (Agirre et al. 2009); RG-65 (Rubenstein and Goodenough 1965) asks
for synonymy of nouns.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mini_bert.data.task_sets.columns import fetched, number_of, rows_of

FILES = MappingProxyType(
    {
        "WordSim-353": "EN-WS-353-ALL.txt",
        "WordSim similarity": "EN-WS-353-SIM.txt",
        "WordSim relatedness": "EN-WS-353-REL.txt",
        "SimLex-999": "EN-SIMLEX-999.txt",
        "MEN-3000": "EN-MEN-TR-3k.txt",
        "RG-65": "EN-RG-65.txt",
    }
)
"""Set → its file."""


class WordPair(NamedTuple):
    """Two words and how near people find them; the scale is the set's own."""

    first: str
    second: str
    score: float


def read_word_pairs(path: Path) -> list[WordPair]:
    """`word <tab> word <tab> score` on each line.

    Raises:
        DataError: the file cannot be read so.
    """
    return [
        WordPair(first, second, number_of(score, f"{path}:{number}"))
        for number, (first, second, score) in rows_of(path, 3)
    ]


def word_similarity_sets() -> dict[str, list[WordPair]]:
    """All six, by name.

    Raises:
        DataError: the files are not there and cannot be fetched.
    """
    return {name: read_word_pairs(path) for name, path in zip(FILES, fetched("wordsim", *FILES.values()), strict=True)}
