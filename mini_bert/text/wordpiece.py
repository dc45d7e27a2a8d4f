"""Words fall into pieces: the WordPiece tokenizer of BERT.

A word is cut from left to right, and each piece is the longest one of the vocabulary that fits; pieces inside a word
are written with `##` before them. A word that cannot be cut so to its end is [UNK] as a whole.

Source: Wu et al. 2016, "Google's neural machine translation system", section 4.1; google-research/bert,
`tokenization.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from mini_bert.errors import DataError, InvalidInputError
from mini_bert.text.explanation import ExplainedWord, Explanation, Try, explain_word
from mini_bert.text.normalize import normalize, normalize_aligned, split_chunks, split_words, word_spans
from mini_bert.text.pieces import CONTINUATION, LONGEST_WORD, SPECIALS, join_pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")
_UNWRITABLE = re.compile("^$|[\n\r\ud800-\udfff]")

_CACHED_CHUNKS = 1 << 17
_LONGEST_CACHED_CHUNK = 48


class Encoding(NamedTuple):
    """A text in pieces; four lists of one length.

    Fields:
        ids: numbers of the pieces in the vocabulary.
        tokens: the pieces themselves.
        offsets: `(begin, end)` in the text as it was given: `text[begin:end]` is what the piece stands for.
        word_ids: number of the word that the piece belongs to, from 0.
    """

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    word_ids: list[int]


class WordPiece:
    """A vocabulary and the rules by which text falls into its pieces; never changes once made.

    Args:
        vocabulary: the pieces; a piece's place is its id. Must hold the five special pieces, at any place.
        lowercase: turn capitals into small letters (uncased BERT).
        strip_accents: remove accents; None: as `lowercase` says.

    Raises:
        DataError: the vocabulary lacks a special piece, holds a piece twice, or one that is no line of text.

    >>> wordpiece = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "!"])
    >>> wordpiece.encode("Unaffable!").tokens
    ['un', '##aff', '##able', '!']
    >>> wordpiece.decode([5, 6, 7, 8])
    'unaffable!'
    """

    def __init__(self, vocabulary: Sequence[str], *, lowercase: bool = True, strip_accents: bool | None = None) -> None:
        self.vocabulary: tuple[str, ...] = tuple(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self._ids = _numbered(self.vocabulary)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self._ids[name] for name in SPECIALS)
        self.special_ids = frozenset(self._ids[name] for name in SPECIALS)
        self._continuations = {
            token[len(CONTINUATION) :]: place for token, place in self._ids.items() if token.startswith(CONTINUATION)
        }
        self._longest_piece = max(map(len, self.vocabulary))
        self._chunk_ids = _ChunkCache(self)

    @property
    def vocab_size(self) -> int:
        """V, the number of pieces."""
        return len(self.vocabulary)

    @cached_property
    def continuation(self) -> NDArray[np.bool_]:
        """For each id whether its piece goes on with a word (begins with ##); bool `[V]`, read-only."""
        import numpy

        continuation = numpy.array([token.startswith(CONTINUATION) for token in self.vocabulary], dtype=numpy.bool_)
        continuation.flags.writeable = False
        return continuation

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary and the settings, in hexadecimal: equal for tokenizers that do the same."""
        settings = [list(self.vocabulary), self.lowercase, self._strips_accents]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """`vocab.txt`, `tokenizer.json` and `tokenizer_config.json`, as Hugging Face reads them: name → content."""
        from mini_bert.text.tokenizer_file import tokenizer_files

        return MappingProxyType(tokenizer_files(self))

    def token(self, id: int) -> str:
        """The piece with this id.

        Raises:
            InvalidInputError: there is no such id.
        """
        try:
            if id >= 0:
                return self.vocabulary[id]
        except (IndexError, TypeError):
            pass
        raise InvalidInputError("id", got=id, expected=f"a whole number from 0 to {self.vocab_size - 1}")

    def id(self, token: str) -> int:
        """The id of a piece.

        Raises:
            InvalidInputError: the vocabulary does not hold it.
        """
        if token not in self._ids:
            raise InvalidInputError(
                "token",
                got=repr(token),
                expected="a piece of the vocabulary",
                advice="Pieces inside a word begin with ##; `explain` shows how a word falls into pieces.",
            )
        return self._ids[token]

    def encode_ids(self, text: str) -> list[int]:
        """Ids of the pieces, the fast way: each chunk between spaces is looked up in a cache (of bounded size).

        Special pieces are not recognised: "[MASK]" in a corpus is `[`, `mask` and `]`, and hides nothing.
        """
        _demand_text("text", text)
        return list(chain.from_iterable(map(self._chunk_ids.__getitem__, split_chunks(text))))

    def encode(self, text: str) -> Encoding:
        """Ids, pieces, offsets and word numbers of a text.

        Special pieces that are written in the text, such as "[MASK]", are recognised, in capitals only. [CLS] and
        [SEP] are not added: `encode_row` does that.
        """
        _demand_text("text", text)
        encoding = Encoding([], [], [], [])
        next_word = 0
        begin = 0
        for part in _SPECIAL.split(text):
            if part in SPECIALS:
                encoding.ids.append(self._ids[part])
                encoding.tokens.append(part)
                encoding.offsets.append((begin, begin + len(part)))
                encoding.word_ids.append(next_word)
                next_word += 1
            else:
                next_word = self._encode_part(part, begin, next_word, encoding)
            begin += len(part)
        return encoding

    def _encode_part(self, part: str, shift: int, next_word: int, encoding: Encoding) -> int:
        normalized, sources = normalize_aligned(part, self.lowercase, self.strip_accents)
        for begin, end in word_spans(normalized):
            for piece_id, piece_begin, piece_end in self._pieces(normalized[begin:end]):
                encoding.ids.append(piece_id)
                encoding.tokens.append(self.vocabulary[piece_id])
                first, last = sources[begin + piece_begin], sources[begin + piece_end - 1]
                encoding.offsets.append((shift + first, shift + last + 1))
                encoding.word_ids.append(next_word)
            next_word += 1
        return next_word

    def encode_row(
        self, text: str, pair: str | None = None, max_length: int | None = None
    ) -> tuple[list[int], list[int]]:
        """A row for the model: `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`.

        Returns:
            `(input_ids, token_type_ids)`; the second is 1 on `pair` and the [SEP] behind it, 0 before.

        Args:
            max_length: cut the row to so many ids, at the end of the longer of the two texts.

        Raises:
            InvalidInputError: `max_length` leaves no room for [CLS] and [SEP].
        """
        first = self.encode(text).ids
        second = self.encode(pair).ids if pair is not None else []
        framing = 2 if pair is None else 3
        if max_length is not None:
            if max_length < framing:
                raise InvalidInputError(
                    "max_length", got=max_length, expected=f"at least {framing}, for [CLS] and the [SEP]s"
                )
            _truncate_longest(first, second, max_length - framing)
        input_ids = [self.cls_id, *first, self.sep_id]
        token_type_ids = [0] * len(input_ids)
        if pair is not None:
            input_ids += [*second, self.sep_id]
            token_type_ids += [1] * (len(second) + 1)
        return input_ids, token_type_ids

    def decode(self, ids: Iterable[int], skip_specials: bool = True) -> str:
        """Text of the ids (`join_pieces`). Capitals, accents and spaces that normalisation took away do not come back.

        Raises:
            InvalidInputError: an id is not in the vocabulary.
        """
        return join_pieces([self.token(id) for id in ids if not (skip_specials and id in self.special_ids)])

    def explain(self, text: str) -> Explanation:
        """How the text falls into pieces, with every candidate that was tried; `print` it to read it.

        >>> wordpiece = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##do"])
        >>> print(wordpiece.explain("Undo"))
        Undo -> undo
        undo -> un ##do
          undo  no
          und   no
          un    piece 5
          ##do  piece 6
        """
        _demand_text("text", text)
        normalized = ""
        words = []
        for part in _SPECIAL.split(text):
            if part in SPECIALS:
                normalized += part
                words.append(ExplainedWord(part, (part,), (Try(part, self._ids[part]),)))
                continue
            normal = normalize(part, self.lowercase, self.strip_accents)
            normalized += normal
            for word in split_words(normal):
                pieces = tuple(self.vocabulary[id] for id, _, _ in self._pieces(word))
                words.append(explain_word(word, pieces, self._ids))
        return Explanation(text, normalized, tuple(words))

    def save(self, folder: str | Path) -> None:
        """Write `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`, as Hugging Face reads them.

        Raises:
            StorageError: writing failed.
        """
        from mini_bert.text.tokenizer_file import save_tokenizer

        save_tokenizer(self, Path(folder))

    @classmethod
    def load(cls, path: str | Path, *, lowercase: bool | None = None, strip_accents: bool | None = None) -> WordPiece:
        """Read a folder, a `tokenizer.json` or a `vocab.txt`.

        A folder's `tokenizer.json` comes first, since it knows its settings; then `vocab.txt` with the settings in
        `tokenizer_config.json`, if there is one. Settings given here win over those of the files.

        Raises:
            DataError: there is no such file, or it is not a WordPiece vocabulary in UTF-8.
        """
        from mini_bert.text.tokenizer_file import read_tokenizer

        vocabulary, settings = read_tokenizer(Path(path))
        return cls(
            vocabulary,
            lowercase=settings.lowercase if lowercase is None else lowercase,
            strip_accents=settings.strip_accents if strip_accents is None else strip_accents,
        )

    @property
    def _strips_accents(self) -> bool:
        return self.lowercase if self.strip_accents is None else self.strip_accents

    def _pieces(self, word: str) -> list[tuple[int, int, int]]:
        """Greedy longest match: `(id, begin, end)` of each piece in the word; the whole word as [UNK] if it fails."""
        length = len(word)
        unknown = [(self.unk_id, 0, length)]
        if length > LONGEST_WORD:
            return unknown
        found = []
        begin = 0
        known = self._ids
        while begin < length:
            for end in range(min(length, begin + self._longest_piece), begin, -1):
                piece_id = known.get(word[begin:end])
                if piece_id is not None:
                    found.append((piece_id, begin, end))
                    break
            else:
                return unknown
            begin = end
            known = self._continuations
        return found

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"WordPiece({self.vocab_size} pieces, lowercase={self.lowercase}, strip_accents={self.strip_accents})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordPiece) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.vocabulary, self.lowercase, self.strip_accents))


def _rebuild(vocabulary: tuple[str, ...], lowercase: bool, strip_accents: bool | None) -> WordPiece:
    return WordPiece(vocabulary, lowercase=lowercase, strip_accents=strip_accents)


class _ChunkCache(dict[str, "tuple[int, ...]"]):
    """Chunk of text without white space -> its ids; emptied when full, so that memory stays bounded (about 40 MB)."""

    def __init__(self, wordpiece: WordPiece) -> None:
        super().__init__()
        self._wordpiece = wordpiece

    def __missing__(self, chunk: str) -> tuple[int, ...]:
        wordpiece = self._wordpiece
        words = split_words(normalize(chunk, wordpiece.lowercase, wordpiece.strip_accents))
        ids = tuple(id for word in words for id, _, _ in wordpiece._pieces(word))
        if len(chunk) <= _LONGEST_CACHED_CHUNK:
            if len(self) >= _CACHED_CHUNKS:
                self.clear()
            self[chunk] = ids
        return ids


def _truncate_longest(first: list[int], second: list[int], room: int) -> None:
    """Cut the longer of two lists down to the shorter one, then both in turn, until they fit (as Hugging Face does)."""
    shorter, longer = (first, second) if len(first) <= len(second) else (second, first)
    while len(first) + len(second) > room:
        (longer if len(longer) > len(shorter) else shorter).pop()


def _numbered(vocabulary: tuple[str, ...]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for place, token in enumerate(vocabulary):
        if not isinstance(token, str) or _UNWRITABLE.search(token):
            raise DataError(
                "vocabulary",
                got=f"{token!r:.60} as piece {place}",
                expected="pieces of one or more characters, without line breaks and lone surrogates",
            )
        if ids.setdefault(token, place) != place:
            raise DataError(
                "vocabulary",
                got=f"{token!r:.60} twice, as pieces {ids[token]} and {place}",
                expected="every piece once",
                advice="The place of a piece is its id, so a second one would be ambiguous.",
            )
    missing = [name for name in SPECIALS if name not in ids]
    if missing:
        raise DataError(
            "vocabulary",
            got=f"{len(vocabulary)} pieces without {', '.join(missing)}",
            expected=f"the special pieces {' '.join(SPECIALS)} among them",
            advice="Is this the vocabulary of a BERT? `mini-bert tokenizer train` makes one.",
        )
    return ids


def _demand_text(argument: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInputError(argument, got=f"{text!r:.60}", expected="a string", advice="Decode bytes first.")
