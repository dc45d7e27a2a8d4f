"""The tokenizer: pieces, offsets, rows and text again."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import DataError, InvalidInputError
from mini_bert.text import wordpiece as module
from mini_bert.text.normalize import normalize
from mini_bert.text.pieces import SPECIALS
from mini_bert.text.wordpiece import WordPiece

PIECES = [*SPECIALS, "un", "##aff", "##able", "##a", "a", "b", "##b", "the", "want", "##ed", ",", "!", "中", "[", "]"]
PIECES += ["mask", "##ß", "'", "s"]


@pytest.fixture(scope="module")
def wordpiece() -> WordPiece:
    return WordPiece(PIECES)


any_text = st.text(st.one_of(st.sampled_from("ab unAB'!, é中\t[]ß"), st.characters()), max_size=30)


def test_longest_match_comes_first(wordpiece: WordPiece) -> None:
    assert wordpiece.encode("unaffable").tokens == ["un", "##aff", "##able"]
    assert wordpiece.encode("unaa").tokens == ["un", "##a", "##a"]


def test_a_word_that_does_not_come_out_is_unknown_as_a_whole(wordpiece: WordPiece) -> None:
    encoding = wordpiece.encode("unaffx the")
    assert encoding.tokens == ["[UNK]", "the"]
    assert encoding.offsets == [(0, 6), (7, 10)]


def test_offsets_point_into_the_text_as_it_was_given(wordpiece: WordPiece) -> None:
    text = "Ûn\u200baff\u0301able,  中THE!"
    encoding = wordpiece.encode(text)
    assert encoding.tokens == ["un", "##aff", "##able", ",", "中", "the", "!"]
    assert [text[begin:end] for begin, end in encoding.offsets] == ["Ûn", "aff", "able", ",", "中", "THE", "!"]
    assert encoding.word_ids == [0, 0, 0, 1, 2, 3, 4]
    assert encoding.ids == [5, 6, 7, 15, 17, 12, 16]


def test_a_word_of_100_characters_is_cut_and_one_of_101_is_unknown(wordpiece: WordPiece) -> None:
    assert wordpiece.encode("a" * 100).tokens == ["a"] + ["##a"] * 99
    assert wordpiece.encode("a" * 101).tokens == ["[UNK]"]
    assert wordpiece.encode_ids("a" * 10_000) == [wordpiece.unk_id]
    assert wordpiece.encode("á" * 100).tokens == ["a"] + ["##a"] * 99


def test_special_pieces_are_recognised_in_sentences_but_not_in_corpora(wordpiece: WordPiece) -> None:
    encoding = wordpiece.encode("the [MASK]! [mask]")
    assert encoding.tokens == ["the", "[MASK]", "!", "[", "mask", "]"]
    assert encoding.offsets[1] == (4, 10)
    assert encoding.word_ids == [0, 1, 2, 3, 4, 5]
    assert wordpiece.mask_id not in wordpiece.encode_ids("the [MASK]!")
    assert wordpiece.encode_ids("[MASK]") == [wordpiece.id(token) for token in ("[", "mask", "]")]


def test_empty_text_has_no_pieces(wordpiece: WordPiece) -> None:
    for text in ("", " \t\n", "\x00\ufeff", "\u0301"):
        assert wordpiece.encode(text) == ([], [], [], [])
        assert wordpiece.encode_ids(text) == []
    assert wordpiece.encode_row("") == ([2, 3], [0, 0])


def test_lone_surrogates_vanish_as_the_replacement_character_does(wordpiece: WordPiece) -> None:
    encoding = wordpiece.encode("u\ud83dn the")
    assert encoding.tokens == ["un", "the"]
    assert encoding.offsets == [(0, 3), (4, 7)]
    assert wordpiece.encode_ids("u\ud83dn the") == wordpiece.encode_ids("u\ufffdn the") == encoding.ids


def test_cased_tokenizers_see_capitals() -> None:
    cased = WordPiece([*SPECIALS, "The", "é"], lowercase=False)
    assert cased.encode("The the é").tokens == ["The", "[UNK]", "é"]


def test_rows_have_frames_and_segments(wordpiece: WordPiece) -> None:
    assert wordpiece.encode_row("the") == ([2, 12, 3], [0, 0, 0])
    assert wordpiece.encode_row("the", "a b") == ([2, 12, 3, 9, 10, 3], [0, 0, 0, 1, 1, 1])
    assert wordpiece.encode_row("the", "") == ([2, 12, 3, 3], [0, 0, 0, 1])


def test_long_rows_lose_the_end_of_the_longer_text(wordpiece: WordPiece) -> None:
    assert wordpiece.encode_row("a b the", max_length=4)[0] == [2, 9, 10, 3]
    assert wordpiece.encode_row("a b the a", "b b", max_length=7)[0] == [2, 9, 10, 3, 10, 10, 3]
    assert wordpiece.encode_row("a b the a", "b b", max_length=6)[0] == [2, 9, 10, 3, 10, 3]
    assert wordpiece.encode_row("b b", "a b the a", max_length=6)[0] == [2, 10, 3, 9, 10, 3]
    assert wordpiece.encode_row("a b", "b b", max_length=6)[0] == [2, 9, 3, 10, 10, 3]
    assert wordpiece.encode_row("a b", "b b", max_length=3)[0] == [2, 3, 3]
    with pytest.raises(InvalidInputError, match="got 2; expected at least 3"):
        wordpiece.encode_row("a", "b", max_length=2)


def test_decoding_joins_pieces_and_takes_back_spaces(wordpiece: WordPiece) -> None:
    ids = wordpiece.encode_row("The unaffable, wanted!")[0]
    assert wordpiece.decode(ids) == "the unaffable, wanted!"
    assert wordpiece.decode(ids, skip_specials=False) == "[CLS] the unaffable, wanted! [SEP]"
    assert wordpiece.decode([6, 7]) == "##affable"
    assert wordpiece.decode([]) == ""


@pytest.mark.parametrize("id", [-1, len(PIECES), 2**70, 1.5, None, "the"])
def test_ids_outside_the_vocabulary_are_refused(wordpiece: WordPiece, id: object) -> None:
    with pytest.raises(InvalidInputError, match=f"id: got {id}; expected a whole number from 0 to {len(PIECES) - 1}"):
        wordpiece.decode([id])  # type: ignore[list-item]


def test_names_of_pieces(wordpiece: WordPiece) -> None:
    assert wordpiece.token(np.int64(6)) == "##aff"
    assert wordpiece.id("##aff") == 6
    with pytest.raises(InvalidInputError, match="token: got 'aff'"):
        wordpiece.id("aff")


@pytest.mark.parametrize("text", [b"the", None, 3, ["the"]])
def test_what_is_no_text_is_refused(wordpiece: WordPiece, text: object) -> None:
    for function in (wordpiece.encode, wordpiece.encode_ids, wordpiece.encode_row, wordpiece.explain):
        with pytest.raises(InvalidInputError, match=r"text: got .* expected a string"):
            function(text)  # type: ignore[operator]


def test_facts_for_masking(wordpiece: WordPiece) -> None:
    assert wordpiece.vocab_size == len(wordpiece) == len(PIECES)
    assert (wordpiece.pad_id, wordpiece.unk_id, wordpiece.cls_id, wordpiece.sep_id, wordpiece.mask_id) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert wordpiece.special_ids == {0, 1, 2, 3, 4}
    assert wordpiece.continuation.dtype == np.bool_
    assert [PIECES[place] for place in np.flatnonzero(wordpiece.continuation)] == [
        piece for piece in PIECES if piece[:2] == "##"
    ]


def test_special_pieces_may_stand_anywhere() -> None:
    wordpiece = WordPiece(["a", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[PAD]"])
    assert wordpiece.encode_row("a [MASK] ?")[0] == [3, 0, 1, 4, 2]
    assert wordpiece.decode([3, 0, 5, 2]) == "a"


def test_explaining_shows_every_try(wordpiece: WordPiece) -> None:
    explanation = wordpiece.explain("Unaffab [MASK]")
    assert explanation.normalized == "unaffab [MASK]"
    unaffab, mask = explanation.words
    assert unaffab.pieces == ("un", "##aff", "##a", "##b")
    assert [candidate for candidate, _ in unaffab.tries] == [
        *("unaffab", "unaffa", "unaff", "unaf", "una", "un"),
        *("##affab", "##affa", "##aff"),
        *("##ab", "##a", "##b"),
    ]
    assert [id for _, id in unaffab.tries if id is not None] == [5, 6, 8, 11]
    assert mask.pieces == ("[MASK]",)
    assert "nothing fits here" in str(wordpiece.explain("unx"))
    assert "101 characters" in str(wordpiece.explain("a" * 101))


@settings(deadline=None)
@given(any_text)
def test_explaining_and_encoding_agree(text: str) -> None:
    wordpiece = WordPiece(PIECES)
    pieces = [piece for word in wordpiece.explain(text).words for piece in word.pieces]
    assert pieces == wordpiece.encode(text).tokens


@settings(deadline=None)
@given(any_text)
def test_each_piece_stands_for_its_slice_of_the_text(text: str) -> None:
    wordpiece = WordPiece(PIECES)
    encoding = wordpiece.encode(text)
    end_before = 0
    for token, (begin, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        assert end_before <= begin < end <= len(text)
        end_before = end
        if token not in SPECIALS:
            assert normalize(text[begin:end]).strip() == token.removeprefix("##")


@settings(deadline=None)
@given(any_text, any_text)
def test_texts_joined_by_a_space_are_their_pieces_joined(first: str, second: str) -> None:
    wordpiece = WordPiece(PIECES)
    joined = wordpiece.encode_ids(f"{first} {second}")
    assert joined == wordpiece.encode_ids(first) + wordpiece.encode_ids(second)


@settings(deadline=None)
@given(any_text.filter(lambda text: "[" not in text))
def test_the_fast_way_and_the_full_way_agree(text: str) -> None:
    wordpiece = WordPiece(PIECES)
    assert wordpiece.encode_ids(text) == wordpiece.encode(text).ids
    assert wordpiece.encode_ids(text) == wordpiece.encode(text).ids


@settings(deadline=None)
@given(st.lists(st.sampled_from(["the", "unaffable", "wanted", "ab", "aa", "mask", "unßa"]), max_size=8))
def test_decoding_gives_back_words_that_are_normal(words: list[str]) -> None:
    wordpiece = WordPiece(PIECES)
    assert wordpiece.decode(wordpiece.encode_ids(" ".join(words))) == " ".join(words)


def test_the_cache_is_bounded_and_keeps_no_long_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHED_CHUNKS", 10)
    wordpiece = WordPiece(PIECES)
    chunks = ["a" + "b" * length for length in range(40)]
    expected = [[9] + [11] * length for length in range(40)]
    assert [wordpiece.encode_ids(chunk) for chunk in chunks] == expected
    assert 0 < len(wordpiece._chunk_ids) <= 10
    wordpiece.encode_ids(",".join("b" * 40))
    assert max(map(len, wordpiece._chunk_ids)) <= 48


def test_the_fingerprint_tells_vocabularies_and_settings_apart(wordpiece: WordPiece) -> None:
    others = [WordPiece([*PIECES, "x"]), WordPiece(PIECES, lowercase=False), WordPiece(PIECES, strip_accents=False)]
    assert len({other.fingerprint for other in [wordpiece, *others]}) == 4
    assert WordPiece(PIECES, strip_accents=True) == wordpiece
    assert WordPiece([*SPECIALS]).fingerprint == "b02b019cc0fec6451a72705547f99beb9bbcffed14713333038fdbe95d7ddeac"


def test_workers_receive_a_small_copy(wordpiece: WordPiece) -> None:
    wordpiece.encode_ids(" ".join("a" + "b" * length for length in range(40)))
    sent = pickle.dumps(wordpiece)
    assert len(sent) < 1000
    assert pickle.loads(sent) == wordpiece


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ([], r"0 pieces without \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        (["a", *SPECIALS[:4]], r"5 pieces without \[MASK\]"),
        ([*SPECIALS, "a", "b", "a"], "'a' twice, as pieces 5 and 7"),
        ([*SPECIALS, ""], "'' as piece 5"),
        ([*SPECIALS, "a\nb"], "as piece 5"),
        ([*SPECIALS, "\ud800"], "as piece 5"),
        ([*SPECIALS, 7], "7 as piece 5"),
        ([*SPECIALS, ["a"]], "as piece 5"),
    ],
)
def test_unusable_vocabularies_are_refused(vocabulary: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        WordPiece(vocabulary)


def test_importing_the_tokenizer_does_not_load_numpy() -> None:
    program = "import sys, mini_bert.text.wordpiece, mini_bert.text.vocabulary; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
