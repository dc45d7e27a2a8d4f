"""Vocabularies on disk, as Hugging Face writes and reads them: `vocab.txt`, `tokenizer.json`, `tokenizer_config.json`.

A file that asks for what this tokenizer does not do (another model, another normalisation, further special pieces) is
refused: ids that are nearly right are worse than none.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mini_bert.atomic_files import replace_file, storage_errors
from mini_bert.errors import DataError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.text.pieces import CONTINUATION, LONGEST_WORD, SPECIALS

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece

_MOST_PIECES = 2**20
"""As many as a model can have; a file of 16 MB could hold six times as many, in a GB of memory."""

_CLASSES = (
    *(f"{name}Tokenizer{fast}" for name in ("Bert", "DistilBert", "Electra") for fast in ("", "Fast")),
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
)
"""Classes of transformers that do what BERT's tokenizer does, given its files."""


class Settings(NamedTuple):
    """How text is normalised; the defaults are those of uncased BERT."""

    lowercase: bool = True
    strip_accents: bool | None = None


def read_tokenizer(path: Path) -> tuple[list[str], Settings]:
    """Vocabulary and settings of a folder, a `tokenizer.json` or a `vocab.txt`.

    Raises:
        DataError: nothing of the kind is there, or it is not usable as it is.
    """
    try:
        if path.is_dir():
            return _read_folder(path)
        return read_tokenizer_json(path) if path.suffix == ".json" else _read_vocabulary(path)
    except (OSError, ValueError) as error:
        raise DataError(
            str(path),
            got=getattr(error, "strerror", None) or str(error),
            expected="a folder, a vocab.txt or a tokenizer.json",
            advice="`mini-bert tokenizer train` makes a vocabulary.",
        ) from error


def _read_folder(path: Path) -> tuple[list[str], Settings]:
    """What `tokenizer_config.json` says wins over the other two, as in transformers."""
    if (path / "tokenizer.json").exists():
        vocabulary, settings = read_tokenizer_json(path / "tokenizer.json")
    elif (path / "vocab.txt").exists():
        vocabulary, settings = _read_vocabulary(path / "vocab.txt")
    else:
        raise DataError(
            str(path),
            got="a folder with neither tokenizer.json nor vocab.txt",
            expected="the folder of a BERT",
            advice="`mini-bert tokenizer train` makes a vocabulary.",
        )
    config = path / "tokenizer_config.json"
    return vocabulary, settings._replace(**_read_config(config)) if config.exists() else settings


def _read_vocabulary(path: Path) -> tuple[list[str], Settings]:
    """Cased where a capital letter is a piece: the lower-cased text of an uncased vocabulary has none."""
    vocabulary = read_vocab_txt(path)
    letters = {piece.removeprefix(CONTINUATION) for piece in vocabulary} & set(ascii_uppercase)
    return vocabulary, Settings(lowercase=not letters)


def read_vocab_txt(path: Path) -> list[str]:
    """One piece a line, its id being the number of the line from 0. A byte-order mark and CRLF are understood.

    Raises:
        DataError: the file is empty, too large, not UTF-8, or has blank or repeated lines.
    """
    text = _read_text(path)
    if text.count("\n") > _MOST_PIECES:
        raise DataError(str(path), got=f"more than {_MOST_PIECES:,} lines", expected="a vocabulary")
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise DataError(
            str(path),
            got="an empty file",
            expected="one piece a line",
            advice="`mini-bert tokenizer train` makes a vocabulary.",
        )
    first_seen: dict[str, int] = {}
    for number, piece in enumerate(lines, start=1):
        if not piece.strip(" \t") or "\0" in piece:
            raise DataError(
                f"{path}, line {number}",
                got=f"{piece!r:.60}",
                expected="a piece on every line",
                advice="The number of its line is a piece's id: find out which line was lost rather than removing one.",
            )
        if first_seen.setdefault(piece, number) != number:
            raise DataError(
                f"{path}, line {number}",
                got=f"{piece!r:.60}, which stands on line {first_seen[piece]} already",
                expected="every piece once",
                advice="A piece has one id; two lines for one piece mean that the file was joined or edited.",
            )
    return lines


def read_tokenizer_json(path: Path) -> tuple[list[str], Settings]:
    """Vocabulary and settings of a `tokenizer.json` that does what BERT's does.

    Raises:
        DataError: the file is damaged, or it describes another kind of tokenizer.
    """
    content = _Json(path, _read_json(path))
    model = content.section("model")
    model.demand("type", "WordPiece")
    model.demand("unk_token", "[UNK]")
    model.demand("continuing_subword_prefix", CONTINUATION)
    model.demand("max_input_chars_per_word", LONGEST_WORD)
    normalizer = content.section("normalizer")
    normalizer.demand("type", "BertNormalizer")
    normalizer.demand("clean_text", True)
    normalizer.demand("handle_chinese_chars", True)
    content.section("pre_tokenizer").demand("type", "BertPreTokenizer")
    ids = dict(model.mapping("vocab"))
    recognised: set[str] = set()
    for added in content.list_of_sections("added_tokens"):
        added.demand("content", *SPECIALS)
        added.demand("special", True)
        for name in ("normalized", "single_word", "lstrip", "rstrip"):
            added.demand(name, False)
        added.demand("id", ids.setdefault(added.content["content"], added.content.get("id")))
        recognised.add(added.content["content"])
    if len(recognised) < len(SPECIALS):
        content.refuse("added_tokens", sorted(recognised), f"all of {' '.join(SPECIALS)}")
    settings = Settings(normalizer.boolean("lowercase"), normalizer.boolean_or_none("strip_accents"))
    return _in_order(path, ids), settings


def tokenizer_files(wordpiece: WordPiece) -> dict[str, bytes]:
    """The three files: name → content."""
    documents = {
        "vocab.txt": "".join(f"{token}\n" for token in wordpiece.vocabulary),
        "tokenizer.json": _dumps(_tokenizer_json(wordpiece)),
        "tokenizer_config.json": _dumps(_tokenizer_config(wordpiece)),
    }
    return {name: text.encode() for name, text in documents.items()}


def save_tokenizer(wordpiece: WordPiece, folder: Path) -> None:
    """Write the three files; each appears whole or not at all.

    Raises:
        StorageError: writing failed.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in wordpiece.files.items():
        replace_file(folder / name, content)


def _tokenizer_json(wordpiece: WordPiece) -> dict[str, Any]:
    special = {name: wordpiece.id(name) for name in SPECIALS}
    cls, first, sep = _slot("SpecialToken", "[CLS]"), _slot("Sequence", "A"), _slot("SpecialToken", "[SEP]")
    second, second_sep = _slot("Sequence", "B", 1), _slot("SpecialToken", "[SEP]", 1)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, id in sorted(special.items(), key=lambda item: item[1])
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": wordpiece.strip_accents,
            "lowercase": wordpiece.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, first, sep],
            "pair": [cls, first, sep, second, second_sep],
            "special_tokens": {
                name: {"id": name, "ids": [special[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": CONTINUATION, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": CONTINUATION,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": {token: id for id, token in enumerate(wordpiece.vocabulary)},
        },
    }


def _slot(kind: str, name: str, segment: int = 0) -> dict[str, Any]:
    return {kind: {"id": name, "type_id": segment}}


def _tokenizer_config(wordpiece: WordPiece) -> dict[str, Any]:
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": wordpiece.lowercase,
        "strip_accents": wordpiece.strip_accents,
        "tokenize_chinese_chars": True,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }


def _dumps(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _read_config(path: Path) -> dict[str, bool | None]:
    """The settings that are said."""
    content = _Json(path, _read_json(path))
    content.demand("tokenizer_class", *_CLASSES, None)
    content.demand("do_basic_tokenize", True, None)
    content.demand("tokenize_chinese_chars", True, None)
    lowercase, strip_accents = map(content.boolean_or_none, ("do_lower_case", "strip_accents"))
    said = {} if lowercase is None else {"lowercase": lowercase}
    return said | ({"strip_accents": strip_accents} if "strip_accents" in content.content else {})


def _read_text(path: Path) -> str:
    try:
        return read_regular_file(path, LARGEST_JSON).decode("utf-8-sig")
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        raise DataError(str(path), got=error.strerror, expected="a vocabulary", advice="Is this a corpus?") from error
    except UnicodeDecodeError as error:
        raise DataError(
            str(path),
            got=f"a byte that is not UTF-8 at {error.start}",
            expected="text in UTF-8",
            advice="Save it as UTF-8 (`iconv -f latin1 -t utf-8`, or -f utf-16), unless it is not a text file at all.",
        ) from error


def _read_json(path: Path) -> Any:
    try:
        return parse_json(_read_text(path))
    except ValueError as error:
        raise DataError(
            str(path),
            got=f"damaged JSON ({error})",
            expected="a whole JSON file",
            advice="A download that broke off? Fetch it again, or use the vocab.txt beside it.",
        ) from error


class _Json:
    """A JSON object whose fields are checked as they are read; `place` says where in the file it stands."""

    def __init__(self, path: Path, content: Any, place: str = "") -> None:
        self.path = path
        self.place = place
        if not isinstance(content, dict):
            self.refuse(place or "the file", content, "an object")
        self.content: Mapping[str, Any] = content

    def section(self, name: str) -> _Json:
        return _Json(self.path, self.content.get(name), name)

    def demand(self, name: str, *allowed: object) -> None:
        value = self.content.get(name)
        if not any(type(value) is type(right) and value == right for right in allowed):
            self.refuse(name, value, " or ".join(f"{json.dumps(right):.60}" for right in allowed))

    def mapping(self, name: str) -> Mapping[str, Any]:
        return _Json(self.path, self.content.get(name), f"{self.place}.{name}").content

    def list_of_sections(self, name: str) -> list[_Json]:
        value = self.content.get(name, [])
        if not isinstance(value, list):
            self.refuse(name, value, "a list")
        return [_Json(self.path, item, name) for item in value]

    def boolean(self, name: str) -> bool:
        self.demand(name, True, False)
        return bool(self.content[name])

    def boolean_or_none(self, name: str) -> bool | None:
        self.demand(name, True, False, None)
        value = self.content.get(name)
        return None if value is None else bool(value)

    def refuse(self, name: str, got: object, expected: str) -> NoReturn:
        raise DataError(
            f"{self.path}, {f'{self.place}.{name}' if self.place else name}",
            got=f"{got!r:.60}",
            expected=expected,
            advice="Only the tokenizer of BERT is read here: WordPiece with BERT's normalisation and special pieces.",
        )


def _in_order(path: Path, ids: dict[str, Any]) -> list[str]:
    """The pieces by id.

    Raises:
        DataError: the ids are not the numbers 0 to V - 1, each once.
    """
    pieces: list[str | None] = [None] * len(ids)
    for piece, id in ids.items():
        if type(id) is not int or not 0 <= id < len(ids) or pieces[id] is not None:
            raise DataError(
                f"{path}, model.vocab",
                got=f"id {id!r:.20} for {piece!r:.60}",
                expected=f"each number from 0 to {len(ids) - 1} once",
                advice="Ids with gaps or doubles have no embedding row of their own.",
            )
        pieces[id] = piece
    return [piece for piece in pieces if piece is not None]
