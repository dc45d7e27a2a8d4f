"""Where a sentence ends: a rule of one page, enough for rows that rarely begin in the middle of one.

A sentence ends at `.`, `!` or `?` (and closing quotes or brackets) before white space, if what follows begins with a
capital letter or a digit, perhaps behind an opening quote or bracket. It does not end at a full stop after an
abbreviation of the list below, a single capital (initials), or a word that has a full stop within (`e.g.`, `U.S.`).
"""

from __future__ import annotations

import re

_END = re.compile(r"""[.!?]["'”’)\]]*(\s+)(?=["'“‘(\[]*[^\W_a-z])""")

_ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        "mr mrs ms dr prof rev st mt gen col capt lt sgt hon jr sr messrs vs etc cf al fig eq no vol ch pp ed eds "
        "approx dept inc ltd co corp jan feb mar apr jun jul aug sep sept oct nov dec",
    )
)


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, white space made single.

    >>> split_sentences('Dr. No met J. Bond. "Is it (e.g. Here)?" He asked.')
    ['Dr. No met J. Bond.', '"Is it (e.g. Here)?"', 'He asked.']
    """
    text = " ".join(paragraph.split())
    sentences = []
    start = 0
    for end in _END.finditer(text):
        stop = end.start()
        word = text[start:stop].rpartition(" ")[2].lstrip("\"'“‘([")
        if text[stop] == "." and _is_abbreviation(word):
            continue
        sentences.append(text[start : end.start(1)])
        start = end.end()
    if start < len(text):
        sentences.append(text[start:])
    return sentences


def _is_abbreviation(word: str) -> bool:
    is_initial = len(word) == 1 and word.isupper() and word != "I"
    return is_initial or "." in word.rstrip(".") or word.lower() in _ABBREVIATIONS
