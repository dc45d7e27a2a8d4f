"""Learning a WordPiece vocabulary: begin with characters, and join the most frequent pair, again and again.

1. Every word is a row of its characters, all but the first written with `##` before them.
2. Count each pair of neighbouring pieces, every word as often as it occurs in the corpus.
3. Join the most frequent pair everywhere; the joined piece enters the vocabulary.
4. Back to 2, until the vocabulary is full.

The pair is chosen by its count, as in byte-pair encoding and in Hugging Face's `WordPieceTrainer`. The original papers
choose by the gain in likelihood of a unigram model, count(ab) / (count(a) count(b)), which spends the vocabulary on
rare neighbours: 2,048 pieces learned from 2 MB of Wikipedia cut a word of unseen text into 1.64 by count, into 3.70 by
that gain (into 1.91 where a pair must occur 100 times).

Counts of the corpus are all that matters, and ties go to the pair whose pieces are older, so the vocabulary is the same
to the byte in any process and for any order of the lines.

Source: Schuster and Nakajima 2012, "Japanese and Korean voice search"; Sennrich et al. 2016, "Neural machine
translation of rare words with subword units".
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from mini_bert.errors import DataError, InvalidInputError
from mini_bert.text.normalize import normalize, split_chunks, split_words
from mini_bert.text.pieces import CONTINUATION, LONGEST_WORD, SPECIALS

_CHUNKS_BETWEEN_FOLDS = 1 << 18

_MOST_WORDS = 1 << 19
"""So many different words are learned from at most: the memory of the trainer is bounded by it (about 300 MB)."""


def count_words(texts: Iterable[str], lowercase: bool = True, strip_accents: bool | None = None) -> Counter[str]:
    """How often each word occurs in the texts, after normalisation. Texts are read once, one at a time.

    >>> sorted(count_words(["The cat.", "the dog."]).items())
    [('.', 2), ('cat', 1), ('dog', 1), ('the', 2)]
    """
    words: Counter[str] = Counter()
    chunks: Counter[str] = Counter()

    def fold() -> None:
        for chunk, count in chunks.items():
            for word in split_words(normalize(chunk, lowercase, strip_accents)):
                words[word] += count
        chunks.clear()

    for text in texts:
        chunks.update(split_chunks(text))
        if len(chunks) > _CHUNKS_BETWEEN_FOLDS:
            fold()
    fold()
    return words


def learn_vocabulary(
    word_counts: Mapping[str, int], size: int, min_frequency: int = 2, alphabet_limit: int | None = None
) -> list[str]:
    """The `size` pieces: five special ones, the alphabet, then joined pieces in the order in which they were learned.

    Args:
        word_counts: how often each word occurs; words are normalised and split as `count_words` does it.
        size: V, the number of pieces wanted.
        min_frequency: least count of a pair that is joined.
        alphabet_limit: keep so many of the most frequent characters; words with any other become [UNK]. None: one for
            32 pieces, but 100 to 1000. A character takes up to two pieces (a, ##a), and of the thousand that Hugging
            Face's trainer keeps most are too rare to learn anything about: with 256 of 8,192, Wikipedia needs 1.7 %
            fewer pieces, and 1 word in 8,000 more is unknown.

    Raises:
        DataError: the words yield fewer pieces than `size`, or there are none.
        InvalidInputError: `size` does not hold the special pieces and the alphabet, `min_frequency` is below 1, or a
            word is not one word.
    """
    if min_frequency < 1:
        raise InvalidInputError("min_frequency", got=min_frequency, expected="at least 1")
    for word in word_counts:
        if split_words(word) != [word]:
            raise InvalidInputError(
                "word_counts", got=f"{word!r:.60}", expected="words as `count_words` splits them", advice="Split it."
            )
    if alphabet_limit is None:
        alphabet_limit = max(100, min(1000, size // 32))
    alphabet = _most_frequent_characters(word_counts, alphabet_limit)
    words = _most_frequent_words(
        (word, count) for word, count in word_counts.items() if len(word) <= LONGEST_WORD and alphabet.issuperset(word)
    )
    if not words:
        raise DataError(
            "corpus",
            got=f"no words to learn from ({len(word_counts)} in all)",
            expected="text",
            advice="Is the file empty, or does it hold white space and control characters only?",
        )
    del word_counts  # a million words perhaps, which only the caller may still need
    pieces = _single_characters(word for word, _ in words)
    least = len(SPECIALS) + len(pieces)
    if least > size:
        raise InvalidInputError(
            "vocab_size",
            got=size,
            expected=f"at least {least}: {len(SPECIALS)} special pieces, and the characters of the corpus one by one, "
            f"at the beginning of words and inside",
            advice=f"Ask for more pieces, or lower alphabet_limit (now {alphabet_limit}).",
        )
    _join_pairs(words, pieces, size - len(SPECIALS), min_frequency)
    if len(SPECIALS) + len(pieces) < size:
        learned = len(SPECIALS) + len(pieces)
        raise DataError(
            "corpus",
            got=f"text for {learned} pieces ({len(words)} different words)",
            expected=f"enough for {size}",
            advice=f"Take more text, or a vocabulary of at most {learned} pieces"
            + (f", or a min_frequency below {min_frequency}." if min_frequency > 1 else "."),
        )
    return [*SPECIALS, *pieces]


def _most_frequent_characters(word_counts: Mapping[str, int], limit: int) -> set[str]:
    counts: Counter[str] = Counter()
    for word, count in word_counts.items():
        for character in word:
            counts[character] += count
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return set(ranked[:limit])


def _most_frequent_words(words: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """The words in order of the alphabet; at most `_MOST_WORDS`, the rarest being left out."""
    ranked = sorted(words, key=lambda item: (-item[1], item[0]))
    return sorted(ranked[:_MOST_WORDS])


def _single_characters(words: Iterable[str]) -> list[str]:
    """The pieces of one character, sorted: first those that begin a word, then those inside."""
    first: set[str] = set()
    inside: set[str] = set()
    for word in words:
        first.add(word[0])
        inside.update(word[1:])
    return sorted(first) + [CONTINUATION + character for character in sorted(inside)]


def _join_pairs(words: list[tuple[str, int]], pieces: list[str], size: int, min_frequency: int) -> None:
    """Append joined pieces to `pieces` until there are `size`, or no pair occurs `min_frequency` times.

    A word is a string with one character a piece, the piece's number: joining a pair everywhere in it is then
    `str.replace`, which runs in C. Pair counts are kept up to date from the words that change. The heap holds
    `(-count, pair)`; counts that have changed meanwhile are corrected when they come to the top.
    """
    symbol_of = {piece: chr(number) for number, piece in enumerate(pieces)}
    rows = [
        symbol_of[word[0]] + "".join([symbol_of[CONTINUATION + character] for character in word[1:]])
        for word, _ in words
    ]
    weights = [count for _, count in words]
    counts: defaultdict[str, int] = defaultdict(int)
    where: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        for pair in map(str.__add__, row, row[1:]):
            counts[pair] += weights[number]
            where[pair].append(number)
    heap = [(-count, pair) for pair, count in counts.items() if count >= min_frequency]
    heapq.heapify(heap)
    while heap and len(pieces) < size:
        negative_count, pair = heapq.heappop(heap)
        count = counts[pair]
        if count != -negative_count:
            if count >= min_frequency:
                heapq.heappush(heap, (-count, pair))
            continue
        joined = pieces[ord(pair[0])] + pieces[ord(pair[1])][len(CONTINUATION) :]
        if joined not in symbol_of:  # no corpus is known in which two pairs make one piece; it would keep its number
            symbol_of[joined] = chr(len(pieces))
            pieces.append(joined)
        symbol = symbol_of[joined]
        grown = set()
        for number in where.pop(pair):
            row = rows[number]
            if pair not in row:
                continue
            weight = weights[number]
            for old in map(str.__add__, row, row[1:]):
                counts[old] -= weight
            rows[number] = row = row.replace(pair, symbol)
            for new in map(str.__add__, row, row[1:]):
                counts[new] += weight
                if symbol in new:
                    where[new].append(number)
                    grown.add(new)
        for new in grown:
            if counts[new] >= min_frequency:
                heapq.heappush(heap, (-counts[new], new))
