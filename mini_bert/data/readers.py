"""A reader per format: the lines of a file become passages of text, one or several to a document.

Readers stream: none holds more than one passage. A long document may come in several passages of the same name, one
behind the other; a line longer than 1 MiB is cut there, except in JSON.
"""

from __future__ import annotations

import gzip
import html
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from mini_bert.errors import DataError

_LONGEST_LINE = 1 << 20
_LONGEST_PASSAGE = 1 << 20
_STUB_WORDS = 100
SECTION_CHARACTERS = 4000
"""Least length of a section of a text file that is cut into sections."""


class Passage(NamedTuple):
    """A document, or the next part of one: its name and its paragraphs."""

    name: str
    paragraphs: list[str]


def read_lines(path: Path, longest: int = _LONGEST_LINE) -> Iterator[str]:
    """The lines of a UTF-8 text file, or of a `.gz` of one, whatever its line ends; byte-order mark off.

    Raises:
        DataError: the file is not UTF-8, is binary, or is not gzip though its name says so.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline=None)  # type: ignore[arg-type]
            while line := text.readline(longest):
                number += 1
                if "\0" in line:
                    raise DataError(
                        str(path), got=f"a NUL byte in line {number}", expected="text", advice="This file is binary."
                    )
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            str(path),
            got=f"byte 0x{error.object[error.start]:02x} after line {number}, which is not UTF-8",
            expected="text in UTF-8",
            advice="Convert it first: iconv -f latin1 (or -f utf-16) -t utf-8 FILE; a binary file is no text.",
        ) from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            str(path), got=f"{error} after line {number}", expected="a whole gzip file", advice="Make the .gz again."
        ) from error


def paragraphs_of(lines: Iterable[str]) -> Iterator[str]:
    """Paragraphs of plain text, whether hard-wrapped or one to a line.

    Lines are taken as hard-wrapped when 95 % of the first 400 are of at most 100 characters. Wrapped lines are joined
    up to a blank line, or to a line that ends a sentence and is shorter than three quarters of the wrapping width.
    """
    lines = iter(lines)
    head = list(islice(lines, 400))
    lengths = sorted(len(line.strip()) for line in head if line.strip())
    width = lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0
    wrapped = width <= 100
    held: list[str] = []
    size = 0
    for line in chain(head, lines):
        text = line.strip()
        if text:
            held.append(text)
            size += len(text)
        ends = not text or not wrapped or size > 8000
        ends |= len(text) < 0.75 * width and text[-1:] in ".!?:\"'”’"
        if ends and held:
            yield " ".join(held)
            held, size = [], 0
    if held:
        yield " ".join(held)


def passages_of(name: str, paragraphs: Iterable[str], sections: bool) -> Iterator[Passage]:
    """A text as one document; or, with `sections`, cut at paragraph ends into documents of 4,000 characters or more."""
    limit = SECTION_CHARACTERS if sections else _LONGEST_PASSAGE
    held: list[str] = []
    size = number = 0
    for paragraph in paragraphs:
        held.append(paragraph)
        size += len(paragraph)
        if size >= limit:
            yield Passage(f"{name}#{number:06d}" if sections else name, held)
            held, size, number = [], 0, number + 1
    if held:
        yield Passage(f"{name}#{number:06d}" if sections else name, held)


def read_plain(path: Path, sections: bool = False) -> Iterator[Passage]:
    """A plain text file."""
    return passages_of(path.name, paragraphs_of(read_lines(path)), sections)


def read_jsonl(path: Path) -> Iterator[Passage]:
    """One document a line, in the field `text` of a JSON object."""
    for number, line in enumerate(read_lines(path, longest=-1), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}", got=f"no JSON ({error})", expected='a JSON object with a field "text"'
            ) from error
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            got = f"fields {sorted(entry)}" if isinstance(entry, dict) else f"a JSON {type(entry).__name__}"
            if isinstance(entry, dict) and "text" in entry:
                got = f'a field "text" that is a {type(entry["text"]).__name__}'
            raise DataError(f"{path}, line {number}", got=got, expected='a JSON object with a text field "text"')
        yield Passage(f"{path.name}:{number}", list(paragraphs_of(entry["text"].splitlines())))


_DOC = re.compile(r'<doc id="([^"]*)"[^>]*title="(.*)">$')
_EMPTY_BRACKETS = re.compile(r" ?\([\s,;]*\)")


def read_wikiextractor(path: Path) -> Iterator[Passage]:
    """WikiExtractor blocks without tags and title line; articles under 100 words are stubs and left out."""
    name, body = "", [""][:0]
    for line in read_lines(path):
        if opening := _DOC.match(line):
            name, body = f"{opening[1]} {html.unescape(opening[2])}", []
        elif line.startswith("</doc>"):
            if sum(len(text.split()) for text in body[1:]) >= _STUB_WORDS:
                yield Passage(name, body[1:])
        elif line.strip():
            body.append(_EMPTY_BRACKETS.sub("", html.unescape(line)))


def detokenize(text: str) -> str:
    """Undo the spacing of Moses and treebank tokenisation, and WikiText's `@-@`.

    >>> detokenize("the 11 @.@ 5 @-@ km road , it is n't `` long '' ( 1 , 2 ) .")
    'the 11.5-km road, it isn\\'t " long " (1, 2).'
    """
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = text.replace("``", '"').replace("''", '"').replace("<unk>", "unk")
    text = re.sub(r" (?=[,.;:!?%)\]](?: |$)|n't\b|'(?:s|re|ve|ll|d|m|t)\b)", "", text)
    return re.sub(r"(?<=[(\[$]) ", "", text)


_TITLE = re.compile(r"^ = ([^=].*[^=]) = $")


def read_wikitext(path: Path) -> Iterator[Passage]:
    """WikiText: an article a document, headings kept as short paragraphs; `<unk>` becomes the word `unk`."""
    name, body = "", [""][:0]
    for line in read_lines(path):
        if title := _TITLE.match(line):
            if body:
                yield Passage(name, body)
            name, body = detokenize(title[1]), []
        elif text := line.strip(" ="):
            body.append(detokenize(text))
    if body:
        yield Passage(name, body)


def read_brown(path: Path) -> Iterator[Passage]:
    """The Brown corpus in its zip: a file a document, tags taken off, doubled marks (`? ?`, `; ;`) made single."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if re.fullmatch(r"brown/c[a-r]\d\d", name))
        for name in names:
            lines = archive.read(name).decode("ascii").splitlines()
            sentences = []
            for line in lines:
                words = [token.rpartition("/")[0] for token in line.split()]
                pairs = zip(words, ["", *words], strict=False)
                if kept := [word for word, before in pairs if word != before or word.isalnum()]:
                    sentences.append(detokenize(" ".join(kept)))
            yield Passage(name.rpartition("/")[2], sentences)


READERS: dict[str, Callable[[Path], Iterator[Passage]]] = {
    "plain": read_plain,
    "jsonl": read_jsonl,
    "wikiextractor": read_wikiextractor,
    "wikitext": read_wikitext,
    "brown": read_brown,
}
