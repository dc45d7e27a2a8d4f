"""A configuration → a tokenised corpus: learn the vocabulary if there is none, tokenise once, split off held-out text.

Documents are held out by a hash of their text alone: the same documents for every seed, order and machine, and copies
of a document stay on one side. Of n documents the round(fraction n) with the smallest hashes are held out, at least one
and never all. The vocabulary is learned from the others.

The token files lie in `cache_home()/tokens/<key>/`, keyed by the sources and the tokenizer. A call that is stopped, in
whatever way, is gone on with by the next one: its files are the same bytes as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data import python_docs
from mini_bert.data.cache import cache_key
from mini_bert.data.documents import Corpus, open_corpus, parse_weight
from mini_bert.data.packing import Layout, PackedRows, RowIndex, SentenceRows, in_parts
from mini_bert.data.readers import Passage
from mini_bert.data.sentences import split_sentences
from mini_bert.data.shard_writer import ShardWriter
from mini_bert.data.shards import TokenStore
from mini_bert.data.sources import cache_home
from mini_bert.data.split import held_out_documents, text_hash
from mini_bert.data.unfinished import claimed
from mini_bert.data.vocabularies import given_or_learned
from mini_bert.data.work import Progress, Work
from mini_bert.errors import DataError
from mini_bert.machine import available_cores
from mini_bert.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from mini_bert.config.schema import DataConfig, TokenizerConfig

_MOST_PIECES = 1 << 16
_LONG_SENTENCE = 8
"""Pieces of a sentence that two texts hardly share by chance."""
_BATCHES_BETWEEN_CHECKPOINTS = 32
"""8 MiB of text, a few seconds: what a kill can cost."""


class TokenSet:
    """The training or the held-out side of a tokenised corpus.

    Fields: `n_documents`, `n_sentences`, `n_tokens`.
    """

    def __init__(
        self,
        stores: Sequence[TokenStore],
        chosen: Sequence[NDArray[np.int64] | NDArray[np.uint32]],
        weights: Sequence[float],
        layout: str,
        tokenizer: WordPiece,
    ) -> None:
        self._stores, self._weights = list(stores), list(weights)
        self._chosen = [numbers.astype(np.uint32) for numbers in chosen]
        self.layout, self.tokenizer = layout, tokenizer
        self.n_documents = sum(map(len, chosen))
        self.n_tokens = sum(int((stops - starts).sum()) for _, starts, stops in self._places())

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that stand for the texts, the tokenizer and which documents are on this side."""
        chosen = [hashlib.sha256(numbers.tobytes()).hexdigest() for numbers in self._chosen]
        return cache_key("side 1", [store.index["sha256"] for store in self._stores], chosen)

    @property
    def n_sentences(self) -> int:
        """Number of sentences that have tokens."""
        return sum(self._sentence_rows(corpus, 1).count for corpus in range(len(self._stores)))

    def without(self, other: TokenSet) -> TokenSet:
        """The documents whose text no document of `other` has, by whatever name; there may be none."""
        known = np.concatenate(list(other._hashes()))
        new = [numbers[~np.isin(own, known)] for numbers, own in zip(self._chosen, self._hashes(), strict=True)]
        return TokenSet(self._stores, new, self._weights, self.layout, self.tokenizer)

    def share_known_to(self, other: TokenSet) -> float:
        """The share of its tokens in sentences that `other` has too, among those in sentences of some length."""
        mine: dict[bytes, int] = {}
        for sentence in (ids for document in self.sentences() for ids in document if ids.size >= _LONG_SENTENCE):
            mine[sentence.tobytes()] = mine.get(sentence.tobytes(), 0) + sentence.size
        theirs = (ids for document in other.sentences() for ids in document if ids.size >= _LONG_SENTENCE)
        known = {text for sentence in theirs if (text := sentence.tobytes()) in mine}
        return sum(mine[text] for text in known) / max(1, sum(mine.values()))

    def _hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Those of the documents' texts, corpus by corpus."""
        for store, chosen in zip(self._stores, self._chosen, strict=True):
            yield np.asarray(store.document_hashes)[chosen]

    def whole(self) -> TokenSet:
        """All documents of its corpora, on whichever side they are."""
        every = [np.arange(len(store.document_offsets) - 1) for store in self._stores]
        return TokenSet(self._stores, every, self._weights, self.layout, self.tokenizer)

    def documents(self, most_tokens: int | None = None) -> Iterator[NDArray[np.uint16]]:
        """The ids of each document, without [CLS] and [SEP]: views of the mapped files.

        With `most_tokens`, only as many documents, evenly spread, as hold about so many tokens.
        """
        for store, start, stop in self._spread(most_tokens):
            yield store.read(start, stop)

    def sentences(self, most_tokens: int | None = None) -> Iterator[list[NDArray[np.uint16]]]:
        """The ids of each sentence that has any, document by document; of so many documents as `documents` gives."""
        for store, start, stop in self._spread(most_tokens):
            offsets = store.sentence_offsets
            first, last = np.searchsorted(offsets, start, "right"), np.searchsorted(offsets, stop)
            sentences = np.split(store.read(start, stop), offsets[first:last] - start)
            yield [ids for ids in sentences if ids.size]

    def _spread(self, most_tokens: int | None) -> Iterator[tuple[TokenStore, int, int]]:
        """Store, begin and end of each document, or of an evenly spread part of them."""
        places = (
            (store, start, stop)
            for store, starts, stops in self._places()
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        )
        if most_tokens is None or self.n_tokens <= most_tokens:
            yield from places
            return
        for number, place in enumerate(places, start=1):
            before, now = ((n * most_tokens) // self.n_tokens for n in (number - 1, number))
            if now > before:
                yield place

    def _places(self) -> Iterator[tuple[TokenStore, NDArray[np.int64], NDArray[np.int64]]]:
        """Stores, and where documents of theirs begin and end."""
        for store, chosen in zip(self._stores, self._chosen, strict=True):
            for numbers in in_parts(chosen):
                yield store, store.document_offsets[numbers], store.document_offsets[numbers + 1]

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
        rows = self._packed_rows if self.layout == "packed" else self._sentence_rows
        layouts = [rows(corpus, length - 2) for corpus in range(len(self._stores))]
        tokenizer = self.tokenizer
        return RowIndex(
            length, self._stores, layouts, self._weights, tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id
        )

    def _packed_rows(self, corpus: int, body: int) -> Layout:
        return PackedRows(self._stores[corpus].document_offsets, self._chosen[corpus], body)

    def _sentence_rows(self, corpus: int, body: int) -> Layout:
        store = self._stores[corpus]
        return SentenceRows(store.sentence_offsets, store.document_offsets, self._chosen[corpus], body)


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
    all_held_out: bool = False,
) -> TokenCorpus:
    """The tokenised corpora of a configuration, from the cache where it has them.

    Args:
        data: corpora with weights, layout, held-out share.
        tokenizer_config: a vocabulary file, or how to learn one.
        vocab_size: V, pieces of the vocabulary to learn; the most that a given one may have.
        tokenizer: use this one; nothing is learned.
        progress: told how far the work is.
        workers: processes for long texts; None: one a core. The result is the same for any number.
        all_held_out: every document is on the held-out side, as of a text that a model is only scored on.

    Raises:
        DataError: a corpus is unknown, cannot be read, or is too small.
        ChecksumError: a cached or registered file does not hold the bytes it should.
        StorageError: the cache cannot be written.
    """
    entries = [parse_weight(entry) for entry in data.corpus]
    corpora = [open_corpus(name) for name, _ in entries]
    work = Work(progress or (lambda *_: None), available_cores() if workers is None else workers)
    if tokenizer is None:
        tokenizer = given_or_learned(corpora, data.held_out_fraction, tokenizer_config, vocab_size, work)
    if tokenizer.vocab_size > vocab_size:
        raise DataError(
            "tokenizer",
            got=f"a vocabulary of {tokenizer.vocab_size} pieces",
            expected=f"at most model.vocab_size = {vocab_size}",
            advice=f"Set --model.vocab-size {tokenizer.vocab_size}.",
        )
    if tokenizer.vocab_size > _MOST_PIECES:
        raise DataError(
            "tokenizer",
            got=f"a vocabulary of {tokenizer.vocab_size} pieces",
            expected=f"at most {_MOST_PIECES}: a token is stored in 16 bits",
            advice="A model of such a vocabulary can be used, but corpora are not prepared for it.",
        )
    stores = [_open_or_tokenise(corpus, tokenizer, work) for corpus in corpora]
    weights = [weight for _, weight in entries]
    sides: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for corpus, store in zip(corpora, stores, strict=True):
        hashes = np.asarray(store.document_hashes)
        if all_held_out:
            held_out = np.ones(len(hashes), np.bool_)
        else:
            held_out = held_out_documents(hashes, data.held_out_fraction, corpus.name)
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


class _Encoder(NamedTuple):
    """Passages → ids, sentence lengths and a hash of the text, one of each a passage."""

    tokenizer: WordPiece

    def __call__(self, passages: list[Passage]) -> list[tuple[str, bytes, bytes, bytes]]:
        encode = self.tokenizer.encode_ids
        encoded = []
        for name, paragraphs, _ in passages:
            sentences = [encode(sentence) for text in paragraphs for sentence in split_sentences(text)]
            ids = np.fromiter((id for sentence in sentences for id in sentence), np.uint16)
            lengths = np.array([len(sentence) for sentence in sentences], np.int64)
            encoded.append((name, ids.tobytes(), lengths.tobytes(), text_hash(paragraphs)))
        return encoded


def _open_or_tokenise(corpus: Corpus, tokenizer: WordPiece, work: Work) -> TokenStore:
    folder = cache_home() / "tokens" / cache_key("tokens 1", corpus.fingerprint, tokenizer.fingerprint)
    if not folder.is_dir():
        with claimed(folder, lambda: work.wait(f"tokens of {corpus.name}")) as workplace:
            if workplace is not None:
                with ShardWriter(folder, workplace, source=corpus.identity) as writer:
                    _tokenise(corpus, tokenizer, work, writer)
    return TokenStore(folder)


def _tokenise(corpus: Corpus, tokenizer: WordPiece, work: Work, writer: ShardWriter) -> None:
    passages = corpus.passages(writer.mark)
    batches = work.map("tokenising", _Encoder(tokenizer), corpus, passages, corpus.bytes, writer.characters)
    for number, batch in enumerate(batches, start=1):
        for name, ids, lengths, hashed in batch.result:
            writer.add(name, np.frombuffer(ids, np.uint16), np.frombuffer(lengths, np.int64), hashed)
        if number % _BATCHES_BETWEEN_CHECKPOINTS == 0:
            writer.checkpoint(batch.mark, batch.done)
    writer.finish(
        {
            "corpus": corpus.name,
            "corpus_fingerprint": corpus.fingerprint,
            "sources": [{"name": file.name, "sha256": file.sha256} for file in corpus.files],
            "tokenizer": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
        }
    )
