"""Sentences whose words carry tags: Universal Dependencies, the Brown corpus, and any CoNLL-U file.

Words are those of the annotation: of a range such as `3-4 don't` the syntactic words `do` and `n't` are read, and not
the range itself; empty nodes such as `5.1`, which stand for words that nobody wrote, are left out.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mini_bert.data import sources
from mini_bert.data.readers import Lines
from mini_bert.errors import DataError, MissingExtraError, nearest

# fmt: off
UPOS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
        "SYM", "VERB", "X")
# fmt: on
"""The 17 universal tags (de Marneffe et al. 2021, Comput. Linguist. 47, section 3)."""

_COLUMNS = ["id", "form", "lemma", "upos"]


class TaggedSentence(NamedTuple):
    """A sentence of n words, and the tag of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


class Treebank(NamedTuple):
    """Tagged sentences in three parts that share no document."""

    name: str
    tags: tuple[str, ...]
    """All that a word may be."""
    train: Sequence[TaggedSentence]
    dev: Sequence[TaggedSentence]
    test: Sequence[TaggedSentence]


def read_conllu(path: Path, tags: Sequence[str] = UPOS) -> list[TaggedSentence]:
    """The sentences of a CoNLL-U file with the tags of its column UPOS.

    Raises:
        DataError: the file cannot be read or is not CoNLL-U, has no sentence, or a tag is none of `tags`.
        MissingExtraError: `conllu` is not installed.
    """
    try:
        import conllu
        from conllu.exceptions import ParseException
    except ImportError as error:
        raise MissingExtraError(
            "conllu", got="not installed", expected="the extra `probes`", advice='pip install "mini-bert[probes]"'
        ) from error
    known = frozenset(tags)
    sentences = []
    for number, text in _blocks(path):
        place = f"{path}, sentence from line {number}"
        try:
            tokens = conllu.parse(text, fields=_COLUMNS)[0]
        except ParseException as error:
            raise DataError(place, got=str(error), expected="CoNLL-U: ten columns, with tabs between") from error
        words = [token for token in tokens if isinstance(token["id"], int)]
        for token in words:
            tag = token.get("upos")
            if not (token.get("form") or "").strip():
                raise DataError(place, got="no word in column FORM", expected="a word")
            if tag not in known:
                got = "no tag" if tag in (None, "_") else f"the tag {tag}"
                raise DataError(
                    place,
                    got=f"{got} in column UPOS of the word {token.get('form')!r}",
                    expected=f"one of {' '.join(tags)}",
                )
        if words:
            sentences.append(TaggedSentence(*zip(*((token["form"], token["upos"]) for token in words), strict=True)))
    if not sentences:
        raise DataError(str(path), got="no sentence", expected="CoNLL-U with at least one word")
    return sentences


def _blocks(path: Path) -> Iterator[tuple[int, str]]:
    """The number of its first line and the text of each sentence; blank lines lie between."""
    lines = Lines(path)
    held: list[str] = []
    first = 1
    for line in lines:
        if line.strip():
            if not held:
                first = lines.number
            held.append(line)
        elif held:
            yield first, "\n".join(held) + "\n"
            held = []
    if held:
        yield first, "\n".join(held) + "\n"


def english_ewt() -> Treebank:
    """Universal Dependencies English-EWT in its own three parts: web text, 17 tags.

    Raises:
        DataError, ChecksumError, MissingExtraError: as `fetch` and `read_conllu`.
    """
    files = {path.name: path for path in sources.fetch("ud-ewt")}
    train, dev, test = (read_conllu(files[f"en_ewt-ud-{part}.conllu"]) for part in ("train", "dev", "test"))
    return Treebank("ud-ewt", UPOS, train, dev, test)


def brown() -> Treebank:
    """The Brown corpus, 15 genres: of ten files that follow one another, eight are train, one dev and one test.

    What is added to a tag is taken off: `fw-` (foreign), `-hl` `-tl` `-nc` (headline, title, cited), and all behind a
    `+`, as in `ppss+bez` (I'm), which stays `ppss`. 104 tags are left.

    Raises:
        DataError, ChecksumError: as `fetch`.
    """
    parts: list[list[TaggedSentence]] = [[], [], []]
    (path,) = sources.fetch("brown")
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if re.fullmatch(r"brown/c[a-r]\d\d", name))
        for number, name in enumerate(names):
            part = parts[max(0, number % 10 - 7)]
            for line in archive.read(name).decode("ascii").splitlines():
                if line.split():
                    words, _, tags = zip(*(token.rpartition("/") for token in line.split()), strict=True)
                    part.append(TaggedSentence(words, tuple(map(simple_brown_tag, tags))))
    known = sorted({tag for part in parts for sentence in part for tag in sentence.tags})
    return Treebank("brown", tuple(known), *parts)


def simple_brown_tag(tag: str) -> str:
    """A tag of the Brown corpus without what is added to it.

    >>> [simple_brown_tag(tag) for tag in ("nn-tl", "fw-in+at-tl", "ppss+bez", "md*", "--")]
    ['nn', 'in', 'ppss', 'md*', '--']
    """
    return re.sub(r"(?<=.)(-(hl|tl|nc))+$", "", tag.removeprefix("fw-")).split("+")[0]


TREEBANKS: dict[str, Callable[[], Treebank]] = {"ud-ewt": english_ewt, "brown": brown}
"""By their names in the registry."""


def treebank(name: str) -> Treebank:
    """The treebank of that name.

    Raises:
        DataError: there is none, or as the readers.
    """
    if name not in TREEBANKS:
        raise DataError("treebank", got=f"'{name}'", expected="a treebank", advice=nearest(name, TREEBANKS))
    return TREEBANKS[name]()
