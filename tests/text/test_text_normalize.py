"""Normalisation: by hand, and by properties that hold for any text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.text import characters
from mini_bert.text.normalize import normalize, normalize_aligned, split_chunks, split_words, word_spans

any_text = st.text(st.characters(), max_size=40)
settings_of_bert = st.tuples(st.booleans(), st.sampled_from([None, True, False]))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Crème BRÛLÉE", "creme brulee"),
        ("e\u0301", "e"),
        ("a\tb\nc\rd\u00a0e\u3000f\u2028g", "a b c d e f g"),
        ("a\x00b\x07c\x0bd\x0ce\x1cf\x85g\x7fh\ufffdi", "abcdefghi"),
        ("zero\u200bwidth soft\u00adhyphen \ufeffbom", "zerowidth softhyphen bom"),
        ("private\ue000use \udc80lone\ud800", "privateuse lone"),
        ("ab中文c", "ab 中  文 c"),
        ("ひらカタ한", "ひらカタ한"),
        ("İstanbul", "istanbul"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
        ("Straße ﬁn ℌ", "straße ﬁn ℌ"),
        ("≠ \u037e", "= ;"),
        ("👩\u200d👩\u200d👧 ☕\ufe0f", "👩👩👧 ☕"),
    ],
)
def test_uncased_examples(text: str, normal: str) -> None:
    decomposed_as_nfd = normalize(text)
    assert decomposed_as_nfd == unicodedata.normalize("NFD", normal)


def test_cased_keeps_capitals_and_accents_and_still_cleans() -> None:
    assert normalize("Crème\x00\tBrûlée", lowercase=False) == "Crème Brûlée"


def test_accents_and_capitals_are_set_apart() -> None:
    assert normalize("Élan", lowercase=False, strip_accents=True) == "Elan"
    assert normalize("Élan", lowercase=True, strip_accents=False) == "élan"
    assert normalize("İ", lowercase=True, strip_accents=False) == "i\u0307"


def test_marks_are_sorted_before_those_that_are_no_accents_stay() -> None:
    assert normalize("a\u302e\u0316b\u0488") == "a\u302eb\u0488"
    assert normalize_aligned("a\u302e\u0316b") == ("a\u302eb", [0, 2, 3])


@pytest.mark.parametrize("late", ["\u0898", "\U000105c9", "\U00016121"])
def test_characters_newer_than_the_frozen_tables_are_left_alone(late: str) -> None:
    text = f"a\u0301{late}\u0316"
    assert characters.decompose(text) == text
    assert normalize(text) == f"a{late}"
    assert normalize_aligned(text) == (f"a{late}", [0, 2])


def test_capitals_newer_than_the_interpreter_are_lowered() -> None:
    assert normalize("\u2c2f\ua7dc\U00010570\U00016ea0") == "\u2c5f\u019b\U00010597\U00016ebb"


def test_every_ascii_sign_is_a_word_and_nothing_else_in_ascii_is() -> None:
    signs = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    assert split_words(f"a{signs}b1") == ["a", *signs, "b1"]
    assert split_words(f"é{signs}b1") == ["é", *signs, "b1"]


def test_other_punctuation() -> None:
    assert split_words("«a»—b。c¿") == ["«", "a", "»", "—", "b", "。", "c", "¿"]
    assert split_words("5€ 3×4 ©") == ["5€", "3×4", "©"]


@settings(deadline=None)
@given(any_text, settings_of_bert)
def test_alignment_agrees_with_normalize_and_never_goes_back(text: str, choice: tuple[bool, bool | None]) -> None:
    normal, sources = normalize_aligned(text, *choice)
    assert normal == normalize(text, *choice)
    assert len(sources) == len(normal)
    assert sources == sorted(sources)
    assert all(0 <= source < len(text) for source in sources)


@settings(deadline=None)
@given(any_text, settings_of_bert)
def test_the_fast_way_by_chunks_gives_the_words_of_the_whole(text: str, choice: tuple[bool, bool | None]) -> None:
    by_chunks = [word for chunk in split_chunks(text) for word in split_words(normalize(chunk, *choice))]
    assert by_chunks == split_words(normalize(text, *choice))


@settings(deadline=None)
@given(any_text)
def test_the_ascii_path_and_the_general_path_agree(text: str) -> None:
    ascii_text = "".join(chr(ord(character) % 128) for character in text)
    general = normalize(ascii_text + "ø")
    assert normalize(ascii_text) + "ø" == general
    assert [*split_words(normalize(ascii_text)), "ø"] == split_words(normalize(ascii_text) + " ø")


@settings(deadline=None)
@given(any_text)
def test_spans_are_the_words(text: str) -> None:
    normal = normalize(text)
    assert [normal[begin:end] for begin, end in word_spans(normal)] == split_words(normal)


@settings(deadline=None)
@given(any_text)
def test_uncased_text_holds_no_capitals_accents_or_control_characters(text: str) -> None:
    for character in normalize(text):
        assert character not in characters.CONTROL
        assert character not in characters.MARK
        assert characters.lower(character) == character
        assert character == " " or character not in characters.SPACE


def test_frozen_classes_agree_with_unicodedata_where_unicode_has_not_grown() -> None:
    for code in [*range(0x250), *range(0x370, 0x500), *range(0x2000, 0x206A), *range(0x3040, 0x3100)]:
        character = chr(code)
        category = unicodedata.category(character)
        if category != "Cn":
            assert (character in characters.CONTROL) == (category[0] == "C" and character not in "\t\n\r"), hex(code)
            assert (character in characters.MARK) == (category == "Mn"), hex(code)
            is_sign = category[0] == "P" or (code < 128 and category[0] == "S")
            assert (character in characters.PUNCTUATION) == is_sign, hex(code)
