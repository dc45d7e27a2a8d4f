"""A configuration → a tokenised corpus: learn the vocabulary if there is none, tokenise once, split off held-out text.

Documents are held out by a hash of their text alone: the same documents for every seed, order and machine, and copies
of a document stay on one side. Of n documents the round(fraction n) with the smallest hashes are held out, at least one
and never all. The vocabulary is learned from the others.

What is made lies in `cache_home()`, keyed by everything it depends on: `vocabularies/<key>/` by the sources and the
tokenizer's settings, `tokens/<key>/` by the sources and the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data import python_docs
from mini_bert.data.documents import Corpus, open_corpus, parse_weight
from mini_bert.data.packing import PackedRows, RowIndex, SentenceRows
from mini_bert.data.readers import Passage
from mini_bert.data.sentences import split_sentences
from mini_bert.data.shards import ShardWriter, TokenStore
from mini_bert.data.sources import cache_home
from mini_bert.data.workers import available_workers, ordered_map
from mini_bert.errors import ChecksumError, DataError
from mini_bert.text.vocabulary import count_words, learn_vocabulary
from mini_bert.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from mini_bert.config.schema import DataConfig, TokenizerConfig

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the characters done so far, and their total (0: not known)."""

_BATCH_CHARACTERS = 1 << 18
_SERIAL_BYTES = 4 << 20
"""Smaller corpora are tokenised in this process: starting others takes longer."""
VOCABULARY_CHARACTERS = 1 << 27
"""A vocabulary is learned from about this much text at most: from documents chosen by hash, where there is more."""


class TokenSet:
    """The training or the held-out side of a tokenised corpus.

    Fields: `n_documents`, `n_sentences`, `n_tokens`.
    """

    def __init__(
        self,
        stores: Sequence[TokenStore],
        chosen: Sequence[NDArray[np.int64]],
        weights: Sequence[float],
        layout: str,
        tokenizer: WordPiece,
    ) -> None:
        self._stores, self._chosen, self._weights = list(stores), list(chosen), list(weights)
        self.layout, self.tokenizer = layout, tokenizer
        self._documents = [
            (store.document_offsets[numbers], store.document_offsets[numbers + 1] - store.document_offsets[numbers])
            for store, numbers in zip(stores, chosen, strict=True)
        ]
        self.n_documents = sum(map(len, chosen))
        self.n_tokens = sum(int(lengths.sum()) for _, lengths in self._documents)

    @property
    def n_sentences(self) -> int:
        """Number of sentences."""
        return sum(len(starts) for starts, _ in map(self._sentences, range(len(self._stores))))

    def documents(self) -> Iterator[NDArray[np.uint16]]:
        """The ids of each document, without [CLS] and [SEP]: views of the mapped files."""
        for store, (starts, lengths) in zip(self._stores, self._documents, strict=True):
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                yield store.read(start, start + length)

    def names(self) -> list[str]:
        """The documents' names, in the order of `documents`."""
        return [
            names[number]
            for names, numbers in zip((store.names for store in self._stores), self._chosen, strict=True)
            for number in numbers.tolist()
        ]

    def rows(self, length: int) -> RowIndex:
        """The rows of T = `length` tokens that this text makes in the configured layout.

        Raises:
            DataError: no document is long enough for a row.
        """
        if self.layout == "packed":
            layouts = [PackedRows(starts, lengths, length - 2) for starts, lengths in self._documents]
        else:
            layouts = [SentenceRows(*self._sentences(corpus), length - 2) for corpus in range(len(self._stores))]
        tokenizer = self.tokenizer
        return RowIndex(
            length, self._stores, layouts, self._weights, tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id
        )

    def _sentences(self, corpus: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts and lengths of the sentences of the chosen documents that are not empty."""
        offsets = self._stores[corpus].sentence_offsets
        starts, lengths = np.asarray(offsets[:-1]), np.diff(offsets)
        documents, sizes = self._documents[corpus]
        inside = np.searchsorted(documents, starts, side="right") - 1
        kept = (inside >= 0) & (lengths > 0)
        kept &= starts < (documents + sizes)[np.maximum(inside, 0)]
        return starts[kept], lengths[kept]


class TokenCorpus(NamedTuple):
    """A tokenised corpus: its tokenizer, its two sides, and where it came from."""

    tokenizer: WordPiece
    train: TokenSet
    held_out: TokenSet
    provenance: dict[str, object]


def open_tokens(
    data: DataConfig,
    tokenizer_config: TokenizerConfig,
    vocab_size: int,
    *,
    tokenizer: WordPiece | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> TokenCorpus:
    """The tokenised corpora of a configuration, from the cache where it has them.

    Args:
        data: corpora with weights, layout, held-out share.
        tokenizer_config: a vocabulary file, or how to learn one.
        vocab_size: V, pieces of the vocabulary to learn; the most that a given one may have.
        tokenizer: use this one; nothing is learned.
        progress: told how far the work is.
        workers: processes for long texts; None: one a core. The result is the same for any number.

    Raises:
        DataError: a corpus is unknown, cannot be read, or is too small.
        ChecksumError: a cached or registered file does not hold the bytes it should.
        StorageError: the cache cannot be written.
    """
    entries = [parse_weight(entry) for entry in data.corpus]
    corpora = [open_corpus(name) for name, _ in entries]
    work = _Work(progress or (lambda *_: None), available_workers() if workers is None else workers)
    if tokenizer is None:
        tokenizer = _given_or_learned(corpora, data.held_out_fraction, tokenizer_config, vocab_size, work)
    if tokenizer.vocab_size > vocab_size:
        raise DataError(
            "tokenizer",
            got=f"a vocabulary of {tokenizer.vocab_size} pieces",
            expected=f"at most model.vocab_size = {vocab_size}",
            advice=f"Set --model.vocab-size {tokenizer.vocab_size}.",
        )
    stores = [_open_or_tokenise(corpus, tokenizer, work) for corpus in corpora]
    weights = [weight for _, weight in entries]
    sides: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for corpus, store in zip(corpora, stores, strict=True):
        held_out = held_out_documents(np.asarray(store.document_hashes), data.held_out_fraction, corpus.name)
        sides[0].append(np.flatnonzero(~held_out))
        sides[1].append(np.flatnonzero(held_out))
    train, held = (TokenSet(stores, chosen, weights, data.layout, tokenizer) for chosen in sides)
    provenance: dict[str, object] = {
        "corpora": [
            {
                "name": corpus.name,
                "weight": weight,
                "fingerprint": corpus.fingerprint,
                "files": [{"name": file.name, "sha256": file.sha256} for file in corpus.files],
                "index_sha256": store.index["sha256"],
                **store.index["counts"],
                "held_out_documents": len(chosen),
            }
            for corpus, weight, store, chosen in zip(corpora, weights, stores, sides[1], strict=True)
        ],
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        "train": {"documents": train.n_documents, "tokens": train.n_tokens},
        "held_out": {"documents": held.n_documents, "tokens": held.n_tokens},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    if any(name.startswith("python-docs") for name, _ in entries):
        provenance["python_docs_versions"] = python_docs.versions()
    return TokenCorpus(tokenizer, train, held, provenance)


def held_out_documents(hashes: NDArray[np.uint64], fraction: float, corpus: str = "data.corpus") -> NDArray[np.bool_]:
    """Which documents are held out: the round(fraction n) smallest hashes, at least one, and copies of these.

    Raises:
        DataError: fewer than two different documents.
    """
    different = np.unique(hashes)
    if len(different) < 2:
        raise DataError(
            corpus,
            got=f"{len(different)} document{'s' * (len(different) != 1)}",
            expected="at least two, one to train on and one to hold out",
            advice="Give more text.",
        )
    wanted = min(max(1, round(fraction * len(hashes))), len(hashes))
    last = min(np.partition(hashes, wanted - 1)[wanted - 1], different[-2])
    return np.asarray(hashes <= last)


class _Work(NamedTuple):
    """How to do long work."""

    progress: Progress
    workers: int

    def workers_for(self, corpora: Iterable[Corpus]) -> int:
        return self.workers if self.workers > 1 and sum(c.bytes for c in corpora) > _SERIAL_BYTES else 0


def _given_or_learned(
    corpora: Sequence[Corpus], fraction: float, config: TokenizerConfig, vocab_size: int, work: _Work
) -> WordPiece:
    settings = {"lowercase": config.lowercase, "strip_accents": config.strip_accents}
    if config.vocab_file is not None:
        return WordPiece.load(config.vocab_file, **settings)
    sources = [corpus.fingerprint for corpus in corpora]
    key = _key("vocabulary 1", sources, fraction, settings, config.min_frequency, vocab_size, VOCABULARY_CHARACTERS)
    folder = cache_home() / "vocabularies" / key
    if not (folder / "vocabulary.json").is_file():
        counts = _training_words(corpora, fraction, config, work)
        _keep_vocabulary(folder, learn_vocabulary(counts, vocab_size, config.min_frequency))
    return WordPiece(_kept_vocabulary(folder), **settings)


def _keep_vocabulary(folder: Path, vocabulary: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"sha256": _key(list(vocabulary), length=64), "vocabulary": list(vocabulary)}
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
        json.dump(kept, file, indent=0)
    Path(file.name).replace(folder / "vocabulary.json")


def _kept_vocabulary(folder: Path) -> list[str]:
    path = folder / "vocabulary.json"
    try:
        kept = json.loads(path.read_bytes())
        vocabulary, expected = kept["vocabulary"], kept["sha256"]
        found = _key(vocabulary, length=64)
    except (ValueError, KeyError, TypeError) as error:
        raise ChecksumError(str(path), got=str(error), expected="a vocabulary", advice="Delete this file.") from error
    if found != expected:
        raise ChecksumError(str(path), got=f"sha256 {found}", expected=f"sha256 {expected}", advice="Delete this file.")
    return list(vocabulary)


def _key(*parts: object, length: int = 32) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:length]


def _text_hash(paragraphs: Iterable[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for paragraph in paragraphs:
        digest.update(paragraph.encode("utf-8", "surrogatepass") + b"\n")
    return digest.digest()


class _WordCounter(NamedTuple):
    lowercase: bool
    strip_accents: bool | None

    def __call__(self, passages: list[Passage]) -> Counter[str]:
        texts = (paragraph for passage in passages for paragraph in passage.paragraphs)
        return Counter(count_words(texts, self.lowercase, self.strip_accents))


def _training_words(corpora: Sequence[Corpus], fraction: float, config: TokenizerConfig, work: _Work) -> Counter[str]:
    """Words of the training documents with their counts; where there is much text, of a share chosen by hash."""
    counts: Counter[str] = Counter()
    counter = _WordCounter(config.lowercase, config.strip_accents)
    scans = [_scan(corpus, work) for corpus in corpora]
    total = sum(scan.characters for scan in scans)
    for corpus, scan in zip(corpora, scans, strict=True):
        held_out = held_out_documents(scan.hashes, fraction, corpus.name)
        order = np.argsort(scan.hashes, kind="stable")[::-1]
        taken = np.zeros(len(held_out), bool)
        taken[order[: -(-len(order) * min(VOCABULARY_CHARACTERS, total) // max(total, 1))]] = True
        taken &= ~held_out
        passages = _chosen(corpus.passages(), taken.tolist())
        done = 0
        for size, counted in _batched_map(counter, passages, work.workers_for([corpus])):
            counts.update(counted)
            done += size
            work.progress(f"counting words of {corpus.name}", done, scan.characters)
    return counts


class _Scan(NamedTuple):
    hashes: NDArray[np.uint64]
    characters: int


def _scan(corpus: Corpus, work: _Work) -> _Scan:
    """One reading of a corpus for its documents' hashes, which decide the split before anything is tokenised."""
    hashes: list[bytes] = []
    characters = 0
    name, digest = None, hashlib.blake2b(digest_size=8)
    for passage in corpus.passages():
        if passage.name != name:
            if name is not None:
                hashes.append(digest.digest())
            name, digest = passage.name, hashlib.blake2b(digest_size=8)
            if len(hashes) % 1000 == 0:
                work.progress(f"reading {corpus.name}", characters, 0)
        digest.update(_text_hash(passage.paragraphs))
        characters += sum(map(len, passage.paragraphs))
    if name is not None:
        hashes.append(digest.digest())
    return _Scan(np.frombuffer(b"".join(hashes), "<u8"), characters)


def _chosen(passages: Iterable[Passage], taken: Sequence[bool]) -> Iterator[Passage]:
    number, name = -1, None
    for passage in passages:
        if passage.name != name:
            number, name = number + 1, passage.name
        if taken[number]:
            yield passage


class _Encoder(NamedTuple):
    """Passages → ids, sentence lengths and a hash of the text, one of each a passage."""

    tokenizer: WordPiece

    def __call__(self, passages: list[Passage]) -> list[tuple[str, bytes, bytes, bytes]]:
        encode = self.tokenizer.encode_ids
        encoded = []
        for name, paragraphs in passages:
            sentences = [encode(sentence) for text in paragraphs for sentence in split_sentences(text)]
            ids = np.fromiter((id for sentence in sentences for id in sentence), np.uint16)
            lengths = np.array([len(sentence) for sentence in sentences], np.int64)
            encoded.append((name, ids.tobytes(), lengths.tobytes(), _text_hash(paragraphs)))
        return encoded


def _open_or_tokenise(corpus: Corpus, tokenizer: WordPiece, work: _Work) -> TokenStore:
    folder = cache_home() / "tokens" / _key("tokens 1", corpus.fingerprint, tokenizer.fingerprint)
    if not folder.is_dir():
        writer = ShardWriter(folder)
        try:
            done = 0
            for size, encoded in _batched_map(_Encoder(tokenizer), corpus.passages(), work.workers_for([corpus])):
                for name, ids, lengths, text_hash in encoded:
                    writer.add(name, np.frombuffer(ids, np.uint16), np.frombuffer(lengths, np.int64), text_hash)
                done += size
                work.progress(f"tokenising {corpus.name}", done, 0)
            writer.finish(
                {
                    "corpus": corpus.name,
                    "corpus_fingerprint": corpus.fingerprint,
                    "sources": [{"name": file.name, "sha256": file.sha256} for file in corpus.files],
                    "tokenizer": tokenizer.fingerprint,
                    "vocab_size": tokenizer.vocab_size,
                }
            )
        except BaseException:
            writer.discard()
            raise
    return TokenStore(folder)


def _batched_map(function: Callable, passages: Iterable[Passage], workers: int) -> Iterator[tuple[int, object]]:
    """`function` over batches of about 256 KiB of text; with each result, the characters of its batch."""
    sizes: list[int] = []

    def batches() -> Iterator[list[Passage]]:
        held: list[Passage] = []
        size = 0
        for passage in passages:
            held.append(passage)
            size += sum(map(len, passage.paragraphs))
            if size >= _BATCH_CHARACTERS:
                sizes.append(size)
                yield held
                held, size = [], 0
        if held:
            sizes.append(size)
            yield held

    for number, result in enumerate(ordered_map(function, batches(), workers)):
        yield sizes[number], result
