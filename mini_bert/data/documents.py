"""From the name of a corpus to its documents: a registered name, a file, or a glob pattern.

What a document is: an article, a novel, a module, a line of JSON. A plain text file is one document where the pattern
matches at least 50 files; fewer are cut at paragraph ends into sections of 4,000 characters or more, each a document,
so that a held-out share can be split off by document even from a single file.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mini_bert.data import python_docs
from mini_bert.data.readers import READERS, Mark, Passage
from mini_bert.data.sentences import split_sentences
from mini_bert.data.sources import SOURCES, data_home, fetch, file_sha256
from mini_bert.errors import DataError, nearest

_FILES_AS_DOCUMENTS = 50


class Document(NamedTuple):
    """A document, or the next part of a long one (then the name is the same): its sentences in order."""

    name: str
    sentences: list[str]


class CorpusFile(NamedTuple):
    """A file of a corpus; `name` is the same on every machine."""

    name: str
    path: Path
    sha256: str
    reader: str


class Corpus(NamedTuple):
    """A corpus whose files are there: what is needed to read it, and to know it again."""

    name: str
    files: tuple[CorpusFile, ...]
    sections: bool = False

    @property
    def fingerprint(self) -> str:
        """sha256 over the files' contents and the way they are read; names and places do not count."""
        parts = [f"{file.reader} {file.sha256}" for file in self.files]
        return hashlib.sha256("\n".join([f"corpus 1 sections={self.sections}", *parts]).encode()).hexdigest()

    @property
    def identity(self) -> str:
        """sha256 of the fingerprint and of all names: equal for corpora whose documents are called the same, too."""
        parts = [self.name, self.fingerprint, *(file.name for file in self.files)]
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of the files on disk."""
        return sum(file.path.stat().st_size for file in self.files)

    def passages(self, start: Mark = ()) -> Iterator[Passage]:
        """The text, streamed, from the beginning or from behind the passage that carries the mark `start`.

        Raises:
            DataError: a file cannot be read as text, or holds none.
        """
        first, *within = start or (0,)
        for number, file in enumerate(self.files[first:], first):
            begin = tuple(within) if number == first else ()
            read = READERS["sections" if file.reader == "plain" and self.sections else file.reader]
            found = bool(begin)
            for passage in read(file.path, begin):
                found = True
                yield passage._replace(mark=(number, *passage.mark))
            if not found and file.reader != "wikiextractor":
                raise DataError(str(file.path), got="no text in it", expected="text to read")


def read_documents(corpus: str) -> Iterator[Document]:
    """The documents of a corpus, streamed, each cut into sentences.

    Raises:
        DataError: no such corpus or file, or a file cannot be read as text.
    """
    for name, paragraphs, _ in open_corpus(corpus).passages():
        yield Document(name, [sentence for text in paragraphs for sentence in split_sentences(text)])


def parse_weight(entry: str) -> tuple[str, float]:
    """The corpus and the weight of `name=2.5`; 1 where no weight is written.

    >>> parse_weight("novels=2.5"), parse_weight("brown")
    (('novels', 2.5), ('brown', 1.0))
    """
    name, equals, written = entry.rpartition("=")
    if not equals or Path(entry).exists():
        return entry, 1.0
    try:
        weight = float(written)
    except ValueError:
        weight = 0.0
    if not name or not 0 < weight < 1e6:
        expected = "name, or name=weight with a weight above 0 and below a million"
        raise DataError("--corpus", got=f"'{entry}'", expected=expected)
    return name, weight


def open_corpus(corpus: str) -> Corpus:
    """Find a corpus and hash its files; a registered one is fetched if it is not there.

    Raises:
        DataError: no such corpus (the message names the nearest), no such file, or a file is empty.
    """
    if corpus in ("python-docs", "python-docs-all"):
        path, key = python_docs.harvest(everything=corpus == "python-docs-all")
        return Corpus(corpus, (CorpusFile(path.name, path, key, "python-docs"),))
    source = SOURCES.get(corpus)
    if source is not None and source.kind != "corpus":
        raise DataError("--corpus", got=f"'{corpus}', a data set for {source.kind}", expected=f"one of {_corpora()}")
    if source is not None:
        fetch(corpus)
        texts = [file for file in source.files if "README" not in file.path]
        return Corpus(
            corpus,
            tuple(CorpusFile(f.path, data_home() / corpus / f.path, f.sha256, source.reader or "plain") for f in texts),
        )
    return _open_files(corpus)


def _open_files(pattern: str) -> Corpus:
    is_glob = glob.has_magic(pattern) and not Path(pattern).exists()
    matches = sorted(glob.glob(pattern, recursive=True)) if is_glob else [pattern]  # noqa: PTH207 (absolute patterns)
    paths = [path for path in map(Path, matches) if path.is_file()]
    if not paths:
        raise _nothing_there(pattern, is_glob)
    for path in paths:
        if path.stat().st_size == 0:
            raise DataError(str(path), got="an empty file", expected="text to read")
    plain = all(_reader(path) == "plain" for path in paths)
    files = tuple(CorpusFile(path.name, path, file_sha256(path), _reader(path)) for path in paths)
    return Corpus(pattern, files, sections=plain and len(paths) < _FILES_AS_DOCUMENTS)


def _nothing_there(pattern: str, is_glob: bool) -> DataError:
    if is_glob:
        return DataError(
            "--corpus",
            got=f"'{pattern}', which matches no file below {Path.cwd()}",
            expected="a pattern that matches files",
            advice="Put it in quotes, so that the shell leaves it as it is; ** goes down into folders.",
        )
    if pattern and Path(pattern).is_dir():
        inside = Path(pattern) / "*.txt"
        return DataError("--corpus", got=f"the folder '{pattern}'", expected="files", advice=f"Say '{inside}'.")
    if Path(pattern).suffix or len(Path(pattern).parts) > 1:
        return DataError("--corpus", got=f"'{pattern}': no such file", expected="a file that exists, or a corpus")
    return DataError(
        "--corpus",
        got=f"'{pattern}', an unknown corpus",
        expected="a registered corpus, a file or a pattern",
        advice=nearest(pattern, _corpora()),
    )


def _corpora() -> list[str]:
    return [source.name for source in SOURCES.values() if source.kind == "corpus"]


def _reader(path: Path) -> str:
    inner = path.with_suffix("") if path.suffix == ".gz" else path
    return "jsonl" if inner.suffix in (".jsonl", ".ndjson") else "plain"
