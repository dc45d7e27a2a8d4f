"""A reader per format: the lines of a file become passages of text, one or several to a document.

Readers stream: none holds more than one passage. A long document may come in several passages of the same name, one
behind the other; a line longer than 1 MiB is cut there, except in JSON.

A passage carries a mark, and a reader that is given the mark goes on behind that passage. Plain text and JSON lines are
entered there at once (a `.gz` is unpacked up to there, without looking at the text); of the other formats, whose files
are small, the passages before it are read again and counted.
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
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mini_bert.errors import DataError

LONGEST_LINE = 1 << 20
_LONGEST_PASSAGE = 1 << 20
_LINES_BETWEEN_PLACES = 64
_STUB_WORDS = 100
SECTION_CHARACTERS = 4000
"""Least length of a section of a text file that is cut into sections."""


Mark = tuple[int, ...]
"""A place in a text, for the reader that gave it; () is the beginning."""


class Passage(NamedTuple):
    """A document, or the next part of one: its name and its paragraphs, and where the text behind it begins."""

    name: str
    paragraphs: list[str]
    mark: Mark = ()


class Lines:
    """The lines of a UTF-8 text file, or of a `.gz` of one, whatever its line ends; byte-order mark off.

    Raises (when iterated):
        DataError: the file cannot be read, is not UTF-8, is binary, or is not gzip though its name says so.
    """

    def __init__(self, path: Path, longest: int = LONGEST_LINE, start: Mark = ()) -> None:
        self._path, self._longest = path, longest
        self._place, self.number, self._skipped = start or (0, 0, 0)
        self._placed = self.number
        self._text: io.TextIOWrapper | None = None

    @property
    def mark(self) -> Mark:
        """Where the next line begins: a place in the file, the number of the line there, and how many are skipped.

        A place costs 10 µs, as much as a line; so it is that of the next line, or of one a little before.
        """
        if self._text and self.number - self._placed >= _LINES_BETWEEN_PLACES:
            self._place, self._placed = self._text.tell(), self.number
        return self._place, self._placed, self.number - self._placed

    def __iter__(self) -> Iterator[str]:
        path, first = self._path, self.number + self._skipped
        try:
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw:
                self._text = text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline=None)  # type: ignore[arg-type]
                if self._place:
                    text.seek(self._place)
                while line := text.readline(self._longest):
                    self.number += 1
                    if "\0" in line:
                        got = f"a NUL byte in line {self.number}"
                        raise DataError(str(path), got=got, expected="text", advice="This file is binary.")
                    if self.number > first:
                        yield line.rstrip("\n")
                self._text = None
        except UnicodeDecodeError as error:
            raise DataError(
                str(path),
                got=f"byte 0x{error.object[error.start]:02x} in line {_first_undecodable(path)}, which is not UTF-8",
                expected="text in UTF-8",
                advice="Convert it first: iconv -f latin1 (or -f utf-16) -t utf-8 FILE; a binary file is no text.",
            ) from error
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(
                str(path),
                got=f"{error} after line {self.number}",
                expected="a whole gzip file",
                advice="Make the .gz again.",
            ) from error
        except OSError as error:
            raise DataError(str(path), got=error.strerror or str(error), expected="a file that can be read") from error


def _first_undecodable(path: Path) -> int:
    """The number of the first line that is not UTF-8; a decoder, which reads ahead, does not know it."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw:
        return next(number for number, line in enumerate(raw, start=1) if not _is_text(line))  # type: ignore[arg-type]


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def wrapping_width(lines: Iterable[str]) -> int:
    """The length that 95 % of the first 400 lines do not exceed, blank ones left out."""
    lengths = sorted(length for line in islice(lines, 400) if (length := len(line.strip())))
    return lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0


def paragraphs_of(lines: Iterable[str], width: int) -> Iterator[str]:
    """Paragraphs of plain text, whether hard-wrapped or one to a line.

    Lines are taken as hard-wrapped when their `wrapping_width` is at most 100. Wrapped lines are joined up to a blank
    line, or to a line that ends a sentence and is shorter than three quarters of that width.
    """
    wrapped = width <= 100
    held: list[str] = []
    size = 0
    for line in lines:
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


def read_plain(path: Path, start: Mark = (), *, sections: bool = False) -> Iterator[Passage]:
    """A text file as one document; or, with `sections`, cut into documents of 4,000 characters or more.

    It is cut at the ends of paragraphs. A mark is the number of the next section and the place of the next line.
    """
    limit = SECTION_CHARACTERS if sections else _LONGEST_PASSAGE
    number, *place = start or (0,)
    lines = Lines(path, start=tuple(place))
    held: list[str] = []
    size = 0
    for paragraph in paragraphs_of(lines, wrapping_width(Lines(path))):
        held.append(paragraph)
        size += len(paragraph)
        if size >= limit:
            yield Passage(f"{path.name}#{number:06d}" if sections else path.name, held, (number + 1, *lines.mark))
            held, size, number = [], 0, number + 1
    if held:
        yield Passage(f"{path.name}#{number:06d}" if sections else path.name, held, (number + 1, *lines.mark))


def read_jsonl(path: Path, start: Mark = ()) -> Iterator[Passage]:
    """One document a line, in the field `text` of a JSON object."""
    lines = Lines(path, longest=-1, start=start)
    for line in lines:
        number = lines.number
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
        text = entry["text"].splitlines()
        yield Passage(f"{path.name}:{number}", list(paragraphs_of(text, wrapping_width(text))), lines.mark)


Reader = Callable[[Path, Mark], Iterator[Passage]]
"""Reads a file from a mark on."""


def counted(read: Callable[[Path], Iterator[Passage]]) -> Reader:
    """A reader whose marks are numbers of passages: those before are read again."""

    def read_from(path: Path, start: Mark = ()) -> Iterator[Passage]:
        (behind,) = start or (0,)
        for number, passage in enumerate(islice(read(path), behind, None), behind + 1):
            yield passage._replace(mark=(number,))

    return read_from


_DOC = re.compile(r'<doc id="([^"]*)"[^>]*title="(.*)">$')
_EMPTY_BRACKETS = re.compile(r" ?\([\s,;]*\)")


def read_wikiextractor(path: Path) -> Iterator[Passage]:
    """WikiExtractor blocks without tags and title line; articles under 100 words are stubs and left out."""
    name, body = "", list[str]()
    for line in Lines(path):
        if opening := _DOC.match(line):
            name, body = f"{opening[1]} {html.unescape(opening[2])}", []
        elif line.startswith("</doc>"):
            if sum(len(text.split()) for text in body[1:]) >= _STUB_WORDS:
                yield Passage(name, body[1:])
        elif line.strip():
            body.append(_EMPTY_BRACKETS.sub("", html.unescape(line)))


def read_harvest(path: Path) -> Iterator[Passage]:
    """What `python_docs` has harvested: a passage a line, as JSON."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Passage(*json.loads(line))


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
    name, body = "", list[str]()
    for line in Lines(path):
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


READERS: dict[str, Reader] = {
    "plain": read_plain,
    "sections": partial(read_plain, sections=True),
    "jsonl": read_jsonl,
    "wikiextractor": counted(read_wikiextractor),
    "wikitext": counted(read_wikitext),
    "brown": counted(read_brown),
    "python-docs": counted(read_harvest),
}
