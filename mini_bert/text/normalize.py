"""Text as BERT reads it: cleaned, lower-cased, without accents, and cut into words.

The order matters, and is that of BERT (`BasicTokenizer` in google-research/bert) in Hugging Face's reading:

1. control characters (and U+FFFD) go, every kind of white space becomes a space;
2. a space on both sides of every Chinese character;
3. accents go: canonical decomposition (NFD), then every nonspacing mark is dropped;
4. capitals become small letters;
5. words end at spaces, and every punctuation character is a word of its own.

A lone surrogate is no character: it counts as U+FFFD, and goes with it. What each class holds stands in `characters`.
"""

from __future__ import annotations

import re
from functools import cache

from mini_bert.text import characters
from mini_bert.text.characters import CONTROL, IDEOGRAPH, MARK, PUNCTUATION, SPACE, CharacterMap


def _clean(character: str) -> str | None:
    if character in CONTROL:
        return None
    if character in SPACE:
        return " "
    return f" {character} " if character in IDEOGRAPH else character


_CLEANED = CharacterMap(_clean)
_ASCII_CLEANED = {code: _clean(chr(code)) for code in range(128)}
_ISOLATED = CharacterMap(lambda character: f" {character} " if character in PUNCTUATION else character)
_VANISHING_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
"""`str.split` cuts here, BERT does not: to it they are control characters, and go."""

_ASCII_WORD = re.compile(r"[!-/:-@\[-`{-~]|[^ !-/:-@\[-`{-~]+")


@cache
def _folded(lowercase: bool, strip_accents: bool) -> CharacterMap:
    """The table of steps 3 (its second half) and 4."""

    def fold(character: str) -> str | None:
        if strip_accents and character in MARK:
            return None
        return characters.lower(character) if lowercase else character

    return CharacterMap(fold)


def split_chunks(text: str) -> list[str]:
    """The text cut at white space, else as it is: normalising chunk by chunk gives the words of the whole.

    >>> split_chunks("to be,  or")
    ['to', 'be,', 'or']
    """
    if _VANISHING_SEPARATORS.search(text):
        text = _VANISHING_SEPARATORS.sub("", text)
    return text.split()


def normalize(text: str, lowercase: bool = True, strip_accents: bool | None = None) -> str:
    """Steps 1 to 4. `strip_accents=None` does as `lowercase` says, as BERT does.

    >>> normalize("Crème  Brûlée")
    'creme  brulee'
    >>> normalize("Crème", lowercase=False)
    'Crème'
    """
    if text.isascii():
        cleaned = text.translate(_ASCII_CLEANED)
        return cleaned.lower() if lowercase else cleaned
    strip_accents = lowercase if strip_accents is None else strip_accents
    cleaned = text.translate(_CLEANED)
    if strip_accents:
        cleaned = characters.decompose(cleaned)
    return cleaned.translate(_folded(lowercase, strip_accents)) if lowercase or strip_accents else cleaned


def normalize_aligned(text: str, lowercase: bool = True, strip_accents: bool | None = None) -> tuple[str, list[int]]:
    """`normalize(text)`, and for each of its characters the index in `text` of the character that it came from.

    >>> normalize_aligned("é 中")
    ('e  中 ', [0, 1, 2, 2, 2])
    """
    if text.isascii():
        kept = [index for index, character in enumerate(text) if _ASCII_CLEANED[ord(character)] is not None]
        return normalize(text, lowercase), kept
    strip_accents = lowercase if strip_accents is None else strip_accents
    pairs = [(out, index) for index, character in enumerate(text) for out in _CLEANED[ord(character)] or ""]
    if strip_accents:
        pairs = _decompose_aligned(pairs)
    fold = _folded(lowercase, strip_accents)
    pairs = [(out, index) for character, index in pairs for out in fold[ord(character)] or ""]
    return "".join(character for character, _ in pairs), [index for _, index in pairs]


def _decompose_aligned(pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """NFD with alignment: decompose each character, then sort each run of marks by combining class (a stable sort).

    Marks that change places leave their indices where they were, so that indices never decrease. (Hugging Face: the
    n-th character that begins a decomposition takes the n-th index.)
    """
    parts = [
        (characters.combining_class(part), part, place == 0)
        for character, _ in pairs
        for place, part in enumerate(characters.decompose(character))
    ]
    begin = 0
    while begin < len(parts):
        end = begin + 1
        if parts[begin][0]:
            while end < len(parts) and parts[end][0]:
                end += 1
            parts[begin:end] = sorted(parts[begin:end], key=lambda part: part[0])
        begin = end
    indices = iter(index for _, index in pairs)
    index = 0
    aligned = []
    for _, part, begins in parts:
        if begins:
            index = next(indices)
        aligned.append((part, index))
    return aligned


def split_words(normalized: str) -> list[str]:
    """Step 5: the words of a normalised text.

    >>> split_words("it's 3.5 $")
    ['it', "'", 's', '3', '.', '5', '$']
    """
    if normalized.isascii():
        return _ASCII_WORD.findall(normalized)
    return normalized.translate(_ISOLATED).split()


def word_spans(normalized: str) -> list[tuple[int, int]]:
    """Step 5 with places: `(begin, end)` of each word in the normalised text.

    >>> word_spans("it's")
    [(0, 2), (2, 3), (3, 4)]
    """
    spans = []
    position = 0
    for word in split_words(normalized):
        begin = normalized.index(word, position)
        position = begin + len(word)
        spans.append((begin, position))
    return spans
