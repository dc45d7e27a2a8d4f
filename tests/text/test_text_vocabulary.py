"""The trainer: against one that counts everything again after each step, and to the byte in any process."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from itertools import pairwise
from pydoc_data.topics import topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import DataError, InvalidInputError
from mini_bert.text import vocabulary as module
from mini_bert.text.pieces import SPECIALS
from mini_bert.text.vocabulary import count_words, learn_vocabulary
from mini_bert.text.wordpiece import WordPiece

LINES = [line for name in ("for", "import", "class", "lambda", "with") for line in topics[name].splitlines()]


def learn_slowly(word_counts: Counter[str], size: int, min_frequency: int) -> list[str]:
    """The definition: count all pairs, join the most frequent (of equals the one of the oldest pieces), again."""
    words = {word: [word[0], *(f"##{character}" for character in word[1:])] for word in word_counts}
    pieces = sorted({row[0] for row in words.values()})
    pieces += sorted({piece for row in words.values() for piece in row[1:]})
    while len(pieces) < size - 5:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, row in words.items():
            for left, right in pairwise(row):
                pairs[left, right] += word_counts[word]
        if not pairs:
            break
        age = {piece: place for place, piece in enumerate(pieces)}
        best = min(pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]]))
        if pairs[best] < min_frequency:
            break
        joined = best[0] + best[1].removeprefix("##")
        if joined not in pieces:
            pieces.append(joined)
        for row in words.values():
            place = 0
            while place + 1 < len(row):
                if (row[place], row[place + 1]) == best:
                    row[place : place + 2] = [joined]
                place += 1
    return [*SPECIALS, *pieces]


def test_an_example_by_hand() -> None:
    counts = Counter({"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5})
    assert learn_vocabulary(counts, 17) == [
        *SPECIALS,
        *("b", "h", "p", "##g", "##n", "##s", "##u"),
        *("##ug", "##un", "hug", "pun", "pug"),
    ]


def test_the_same_as_the_definition_on_documentation() -> None:
    counts = count_words(LINES)
    assert learn_vocabulary(counts, 600) == learn_slowly(counts, 600, min_frequency=2)


@settings(deadline=None)
@given(
    st.dictionaries(st.text("aabbc", min_size=1, max_size=9), st.integers(1, 9), min_size=1),
    st.integers(12, 60),
    st.integers(1, 3),
)
def test_the_same_as_the_definition_on_stutters(words: dict[str, int], size: int, min_frequency: int) -> None:
    expected = learn_slowly(Counter(words), size, min_frequency)
    if len(expected) < size:
        with pytest.raises(DataError, match=f"text for {len(expected)} pieces"):
            learn_vocabulary(words, size, min_frequency)
    else:
        assert learn_vocabulary(words, size, min_frequency) == expected


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), max_size=8), st.randoms())
def test_counting_does_not_depend_on_order_or_cuts(lines: list[str], chance: random.Random) -> None:
    counts = count_words(lines)
    shuffled = chance.sample(lines, len(lines))
    assert count_words(shuffled) == counts == count_words(["\n".join(lines)])


def test_counting_in_several_folds_is_counting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = count_words(LINES)
    monkeypatch.setattr(module, "_CHUNKS_BETWEEN_FOLDS", 20)
    assert count_words(LINES) == at_once


def test_counts_by_hand() -> None:
    assert count_words(["Don't!", "DON\x0c \u0301é  don"]) == {"don": 3, "'": 1, "t": 1, "!": 1, "e": 1}
    assert count_words(["Été été"], lowercase=False) == {"Été": 1, "été": 1}


def test_the_same_bytes_as_when_this_was_written() -> None:
    words = Counter({f"{stem}{end}": len(stem) * len(end) for stem in LATIN.split() for end in ("us", "i", "o", "um")})
    digest = hashlib.sha256("\n".join(learn_vocabulary(words, 200)).encode()).hexdigest()
    assert digest == "2cd1c4bc36728b5179a75952d02a875b092a3a7cd66e63fcfc9a63253942af91"


LATIN = """
lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua
enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat
"""


def test_whatever_was_learned_can_be_read() -> None:
    counts = count_words(LINES)
    learned = learn_vocabulary(counts, 600)
    assert len(learned) == len(set(learned)) == 600
    wordpiece = WordPiece(learned)
    for line in LINES:
        assert wordpiece.unk_id not in wordpiece.encode_ids(line)


def test_min_frequency_bounds_what_is_joined() -> None:
    counts = Counter({"aab": 3, "cd": 4})
    assert learn_vocabulary(counts, 10, min_frequency=4) == [*SPECIALS, "a", "c", "##a", "##b", "##d"]
    with pytest.raises(DataError, match=r"text for 11 pieces .* enough for 12.* below 4"):
        learn_vocabulary(counts, 12, min_frequency=4)
    assert learn_vocabulary(counts, 12, min_frequency=3)[-2:] == ["cd", "aa"]


def test_rare_characters_are_left_out_with_their_words() -> None:
    counts = Counter({"abab": 5, "ba": 2, "xa": 3, "aΩ": 1})
    learned = learn_vocabulary(counts, 9, alphabet_limit=2)
    assert learned == [*SPECIALS, "a", "b", "##a", "##b"]
    assert "x" in learn_vocabulary(counts, 10, alphabet_limit=3)


def test_the_rarest_words_are_left_out_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WORDS", 2)
    assert learn_vocabulary(Counter({"ab": 3, "cd": 3, "ef": 2}), 11) == [*SPECIALS, "a", "c", "##b", "##d", "ab", "cd"]


def test_words_longer_than_any_that_is_cut_teach_nothing() -> None:
    counts = Counter({"b" * 101: 50, "ab": 2})
    assert learn_vocabulary(counts, 8) == [*SPECIALS, "a", "##b", "ab"]


@pytest.mark.parametrize("texts", [[], [""], [" \n\t", "\x00\ufeff"]])
def test_no_text_is_an_error_that_says_so(texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"corpus: got no words to learn from .* Is the file empty"):
        learn_vocabulary(count_words(texts), 100)


def test_too_little_text_is_an_error_that_says_how_much_there_was() -> None:
    with pytest.raises(
        DataError, match=r"corpus: got text for 20 pieces \(2 different words\); expected enough for 8192"
    ):
        learn_vocabulary(count_words(["hello world " * 3]), 8192)


def test_a_vocabulary_smaller_than_its_alphabet_is_an_error_that_says_how_large_it_must_be() -> None:
    with pytest.raises(InvalidInputError, match=r"vocab_size: got 11; expected at least 12: .*limit"):
        learn_vocabulary(count_words(["hello world"]), 11)
    for size in (0, -5, 5):
        with pytest.raises(InvalidInputError, match=f"vocab_size: got {size}; expected at least 12"):
            learn_vocabulary(count_words(["hello world"]), size)


@pytest.mark.parametrize("word", ["", "a b", "##a", "c#", "it's"])
def test_words_that_are_no_words_are_refused(word: str) -> None:
    with pytest.raises(InvalidInputError, match="word_counts: got"):
        learn_vocabulary({word: 3, "ab": 2}, 20)


def test_pairs_that_never_occur_cannot_be_joined() -> None:
    with pytest.raises(InvalidInputError, match="min_frequency: got 0; expected at least 1"):
        learn_vocabulary({"ab": 2}, 8, min_frequency=0)
