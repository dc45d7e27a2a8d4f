"""Vocabularies on disk: written and read back, and what happens with files that are not what they should be."""

from __future__ import annotations

import contextlib
import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mini_bert.errors import DataError, StorageError
from mini_bert.text.pieces import SPECIALS
from mini_bert.text.wordpiece import WordPiece

PIECES = [*SPECIALS, "the", "é", "##ß", "中", "\u2028", '"', "\\"]
FILES = {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    WordPiece(PIECES, lowercase=False, strip_accents=True).save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False, None])
def test_a_saved_tokenizer_is_read_back_whole(tmp_path: Path, lowercase: bool, strip_accents: bool | None) -> None:
    saved = WordPiece(PIECES, lowercase=lowercase, strip_accents=strip_accents)
    saved.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    loaded = WordPiece.load(tmp_path)
    assert (loaded.vocabulary, loaded.lowercase, loaded.strip_accents) == (tuple(PIECES), lowercase, strip_accents)
    assert WordPiece.load(tmp_path / "tokenizer.json") == saved
    (tmp_path / "tokenizer.json").unlink()
    assert WordPiece.load(tmp_path) == saved


def test_saving_twice_gives_the_same_bytes(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    WordPiece.load(folder).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert before["vocab.txt"] == "".join(f"{piece}\n" for piece in PIECES).encode()


def test_a_vocabulary_alone_is_uncased_unless_told_otherwise(folder: Path) -> None:
    assert WordPiece.load(folder / "vocab.txt").lowercase is True
    assert WordPiece.load(folder / "vocab.txt", lowercase=False).lowercase is False
    assert WordPiece.load(folder, strip_accents=False).strip_accents is False
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert WordPiece.load(str(folder)).lowercase is True


@pytest.mark.parametrize("capital", ["T", "##T"])
def test_a_vocabulary_with_a_capital_letter_is_cased(tmp_path: Path, capital: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS, "[unused1]", "The", capital]))
    assert WordPiece.load(tmp_path).lowercase is False
    assert WordPiece.load(tmp_path / "vocab.txt").encode("The").tokens == ["The"]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert WordPiece.load(tmp_path).lowercase is True
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS, "[unused1]", "[Z]", "t"]))
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": null}')
    assert WordPiece.load(tmp_path).lowercase is True


@pytest.mark.parametrize("name", ["lowercase", "strip_accents"])
def test_the_tokenizer_config_wins_as_in_transformers(folder: Path, name: str) -> None:
    before = WordPiece.load(folder)
    changed = not getattr(before, name)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case" if name == "lowercase" else name: changed})
    )
    after = WordPiece.load(folder)
    assert getattr(after, name) is changed
    assert {"lowercase", "strip_accents"} - {name} <= {
        other for other in ("lowercase", "strip_accents") if getattr(after, other) == getattr(before, other)
    }


@pytest.mark.parametrize("text", ["\ufeff{}", "{}\r\n", "\ufeff{}\r\n"])
def test_marks_and_line_ends_of_other_systems_are_understood(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vocab.txt"
    line_end = "\r\n" if "\r" in text else "\n"
    path.write_bytes(text.format(line_end.join([*SPECIALS, "a"])).encode())
    assert WordPiece.load(path).vocabulary == (*SPECIALS, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"\xef\xbb\xbf", "got an empty file"),
        (b"\n\n", "line 1: got ''"),
        ("\n".join([*SPECIALS, "", "a"]).encode(), "line 6: got ''"),
        ("\n".join([*SPECIALS, "  ", "a"]).encode(), "line 6: got '  '"),
        ("\n".join([*SPECIALS, "a", "b", "a"]).encode(), "line 8: got 'a', which stands on line 6 already"),
        ("\n".join([*SPECIALS, "a\rb"]).encode(), "piece 5"),
        ("\n".join(SPECIALS[:4]).encode(), r"without \[MASK\]"),
        ("\n".join(SPECIALS).encode("utf-16"), "not UTF-8 at 0.*iconv"),
        ("\n".join([*SPECIALS, "é"]).encode("latin-1"), "not UTF-8 at 31.*iconv"),
        (b"\x00\x01\x02\n" * 10, "line 1"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "not UTF-8"),
        (b"once upon a time\nthere was a corpus", "without"),
        (b"a" * (17 << 20), "more than 16,777,216 bytes.*corpus"),
    ],
)
def test_bad_vocabularies_are_refused_with_advice(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        WordPiece.load(path)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither tokenizer.json nor vocab.txt"):
        WordPiece.load(tmp_path)
    for name in ("nowhere", "nowhere.json", "a\0b", "n" * 5000):
        with pytest.raises(DataError, match=r"expected a folder, a vocab.txt or a tokenizer.json"):
            WordPiece.load(tmp_path / name)


def test_a_place_that_cannot_be_written_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory"):
        WordPiece(PIECES).save(tmp_path / "file" / "folder")


def test_a_save_that_fails_leaves_the_old_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    write = os.write

    def disk_is_full(descriptor: int, content: bytes) -> int:
        write(descriptor, bytes(content)[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", disk_is_full)
    with pytest.raises(StorageError, match="No space left on device"):
        WordPiece([*PIECES, "new"]).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def change(content: Any, address: str, value: Any) -> Any:
    """A copy of the JSON with the field at `a.b.0` set to a value, or removed where the value is `...`."""
    changed = deepcopy(content)
    *parents, last = [int(key) if key.isdigit() else key for key in address.split(".")]
    holder = changed
    for key in parents:
        holder = holder[key]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return changed


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("model", None),
        ("model", []),
        ("model.type", "BPE"),
        ("model.type", ...),
        ("model.unk_token", "<unk>"),
        ("model.continuing_subword_prefix", "@@"),
        ("model.max_input_chars_per_word", 50),
        ("model.max_input_chars_per_word", True),
        ("model.vocab", ["a"]),
        ("model.vocab.the", -1),
        ("model.vocab.the", 99),
        ("model.vocab.the", 0),
        ("model.vocab.the", "5"),
        ("model.vocab.the", 5.0),
        ("model.vocab.the", None),
        ("model.vocab.the", 10**30),
        ("model.vocab.the", ...),
        ("normalizer", None),
        ("normalizer.type", "Lowercase"),
        ("normalizer.clean_text", False),
        ("normalizer.handle_chinese_chars", False),
        ("normalizer.lowercase", None),
        ("normalizer.lowercase", 1),
        ("normalizer.strip_accents", "yes"),
        ("pre_tokenizer.type", "Whitespace"),
        ("added_tokens", {}),
        ("added_tokens", [3]),
        ("added_tokens.0.content", "<extra>"),
        ("added_tokens.0.normalized", True),
        ("added_tokens.0.lstrip", True),
        ("added_tokens.0.id", 1),
        ("added_tokens.0.id", False),
        ("added_tokens.4", ...),
    ],
)
def test_a_tokenizer_json_that_says_something_else_is_refused(folder: Path, address: str, value: object) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")), address, value)))
    with pytest.raises(DataError) as refusal:
        WordPiece.load(folder)
    assert address.split(".")[0] in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"NaN", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b"\xff\xfe{}"]
)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_damaged_json_is_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(DataError):
        WordPiece.load(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"do_lower_case": "no"},
        {"strip_accents": 3},
        {"tokenize_chinese_chars": False},
        {"tokenizer_class": "BertJapaneseTokenizer"},
        {"do_basic_tokenize": False},
    ],
)
def test_settings_that_are_not_understood_are_refused(folder: Path, config: dict[str, object]) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=next(iter(config))):
        WordPiece.load(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_json_whatever_gets_past_with_a_traceback(folder: Path, data: st.DataObject) -> None:
    path = folder / "tokenizer.json"
    WordPiece(PIECES).save(folder)
    content = json.loads(path.read_text("utf-8"))
    addresses = ["model", "normalizer", "pre_tokenizer", "added_tokens", "added_tokens.1", "added_tokens.1.id"]
    addresses += ["model.vocab", "model.vocab.the", "model.type", "normalizer.strip_accents", "model.unk_token"]
    path.write_text(json.dumps(change(content, data.draw(st.sampled_from(addresses)), data.draw(json_values))))
    with contextlib.suppress(DataError):
        assert WordPiece.load(folder).vocabulary in (tuple(PIECES), SPECIALS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | st.lists(st.sampled_from([*SPECIALS, "", "a", "\r"])).map("\n".join).map(str.encode))
def test_no_bytes_whatever_get_past_with_a_traceback(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert len(WordPiece.load(path).encode("a").ids) == 1
