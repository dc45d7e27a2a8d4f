"""The vocabulary of a corpus: learned once from its training documents, kept in `cache_home()/vocabularies/`.

A call that was stopped is gone on with: reading for the split where it stopped, counting words with the next corpus.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mini_bert.data.cache import cache_key, not_written, written_whole
from mini_bert.data.documents import Corpus
from mini_bert.data.readers import Passage
from mini_bert.data.sources import cache_home
from mini_bert.data.split import held_out_documents, scan
from mini_bert.data.unfinished import claimed
from mini_bert.data.work import Work
from mini_bert.errors import ChecksumError
from mini_bert.text.vocabulary import count_words, learn_vocabulary
from mini_bert.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from mini_bert.config.schema import TokenizerConfig

VOCABULARY_CHARACTERS = 1 << 27
"""A vocabulary is learned from about this much text at most: from documents chosen by hash, where there is more."""


def given_or_learned(
    corpora: Sequence[Corpus], fraction: float, config: TokenizerConfig, vocab_size: int, work: Work
) -> WordPiece:
    """The tokenizer of a configuration: of its vocabulary file, from the cache, or learned now.

    Raises:
        DataError: the text is too small for a vocabulary of this size, or the vocabulary file cannot be read.
        ChecksumError: the cached vocabulary has been altered.
    """
    settings = {"lowercase": config.lowercase, "strip_accents": config.strip_accents}
    if config.vocab_file is not None:
        return WordPiece.load(config.vocab_file, **settings)
    sources = [corpus.fingerprint for corpus in corpora]
    key = cache_key(
        "vocabulary 1", sources, fraction, settings, config.min_frequency, vocab_size, VOCABULARY_CHARACTERS
    )
    path = cache_home() / "vocabularies" / f"{key}.json"
    if not path.is_file():
        with claimed(path, lambda: work.wait("a vocabulary")) as workplace:
            if workplace is not None:
                learned = learn_vocabulary(  # the counts are handed over, not held: they may take 100 MB
                    _training_words(corpora, fraction, config, work, workplace), vocab_size, config.min_frequency
                )
                _keep(workplace / path.name, "vocabulary", learned, indent=0)
                try:
                    (workplace / path.name).replace(path)
                except OSError as error:
                    raise not_written(path, error) from error
    return WordPiece(_kept(path, "vocabulary"), **settings)


def _keep(path: Path, what: str, value: object, indent: int | None = None) -> None:
    with written_whole(path) as file:
        file.write(json.dumps({"sha256": cache_key(value, length=64), what: value}, indent=indent))


def _kept(path: Path, what: str) -> Any:
    try:
        kept = json.loads(path.read_bytes())
        value, expected = kept[what], kept["sha256"]
        found = cache_key(value, length=64)
    except (ValueError, KeyError, TypeError) as error:
        raise ChecksumError(str(path), got=str(error), expected=f"a {what}", advice="Delete this file.") from error
    if found != expected:
        raise ChecksumError(str(path), got=f"sha256 {found}", expected=f"sha256 {expected}", advice="Delete this file.")
    return value


class _WordCounter(NamedTuple):
    lowercase: bool
    strip_accents: bool | None

    def __call__(self, passages: list[Passage]) -> Counter[str]:
        texts = (paragraph for passage in passages for paragraph in passage.paragraphs)
        return Counter(count_words(texts, self.lowercase, self.strip_accents))


def _training_words(
    corpora: Sequence[Corpus], fraction: float, config: TokenizerConfig, work: Work, workplace: Path
) -> Counter[str]:
    """Words of the training documents with their counts; where there is much text, of a share chosen by hash."""
    counts: Counter[str] = Counter()
    counter = _WordCounter(config.lowercase, config.strip_accents)
    scans = [scan(corpus, work.progress, workplace / f"scan-{n}") for n, corpus in enumerate(corpora)]
    total = sum(scanned.characters for scanned in scans)
    for number, (corpus, scanned) in enumerate(zip(corpora, scans, strict=True)):
        kept = workplace / f"words-{number}.json"
        with suppress(ChecksumError, FileNotFoundError):
            counts.update(_kept(kept, "count"))
            continue
        mine: Counter[str] = Counter()
        held_out = held_out_documents(scanned.hashes, fraction, corpus.name)
        order = np.argsort(scanned.hashes, kind="stable")[::-1]
        taken = np.zeros(len(held_out), bool)
        taken[order[: -(-len(order) * min(VOCABULARY_CHARACTERS, total) // max(total, 1))]] = True
        taken &= ~held_out
        passages = _chosen(corpus.passages(), taken.tolist())
        for counted in work.map("counting words of", counter, corpus, passages, scanned.characters):
            mine.update(counted.result)
        _keep(kept, "count", mine)
        counts.update(mine)
    work.progress("learning a vocabulary", 0, 0)
    return counts


def _chosen(passages: Iterable[Passage], taken: Sequence[bool]) -> Iterator[Passage]:
    number, name = -1, None
    for passage in passages:
        if passage.name != name:
            number, name = number + 1, passage.name
        if taken[number]:
            yield passage
