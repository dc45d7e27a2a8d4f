"""What does a training learn from? Running text that it asks about, or whatever else makes batches.

A material knows the tokenizer, what it is made of, and which model step 1 begins with; prepared for a configuration, it
hands over batches by number. Everything else about a training is the same whatever it learns from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mini_bert.data.batches import BatchStream
from mini_bert.data.piece_counts import piece_counts
from mini_bert.training.first_model import first_model
from mini_bert.training.phases import References, references
from mini_bert.training.reference_losses import reference_of

if TYPE_CHECKING:
    from mini_bert.batch import Batch
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece


class Stream(Protocol):
    """Batches by number, each a pure function of configuration and seed."""

    steps: int | None
    """Those of the run, for what changes on the way."""

    @property
    def rows_per_epoch(self) -> int:
        """Visits of rows in an epoch: each comes once, or as often as the weight of its corpus says."""

    @property
    def steps_per_epoch(self) -> int:
        """Rounded up."""

    @property
    def changes(self) -> bool:
        """Whether batches late in a run cost more than early ones."""

    def epoch(self, step: int) -> int:
        """The epoch, from 0, of a batch."""

    def rate(self, step: int) -> float:
        """The share of tokens that is hidden in a batch."""

    def batch(self, step: int, rate: float | None = None) -> Batch:
        """Batch number `step`, from 0; masked at another rate than the scheduled one, if it is given."""


class Prepared(NamedTuple):
    """A material, ready to be learned from."""

    stream: Stream
    tokens: int
    """Of an epoch."""
    references: References | None
    """What counting alone can reach at masks; None where masks are not what is learned."""
    facts: Mapping[str, str]
    """Hashes of what else the batches hang on."""


class Material(Protocol):
    """What a training learns from."""

    @property
    def tokenizer(self) -> WordPiece:
        """That makes the pieces."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Plain values that say what it is made of; a resume asks for the same."""

    def first_model(self, config: Config) -> MiniBERT:
        """The model before step 1."""

    def prepare(self, config: Config, threads: int) -> Prepared:
        """Ready for a configuration."""


@dataclass(frozen=True)
class RunningText:
    """A tokenised corpus, whose pieces are hidden, and whose sentences and tokens are asked about."""

    corpus: TokenCorpus

    @property
    def tokenizer(self) -> WordPiece:
        """That made the corpus' ids."""
        return self.corpus.tokenizer

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Files, versions and settings that the ids were made of."""
        return self.corpus.provenance

    def first_model(self, config: Config) -> MiniBERT:
        """As `first_model` in first_model.py.

        Raises:
            CheckpointError, ConfigError: as it says.
        """
        return first_model(config, self.corpus)

    def prepare(self, config: Config, threads: int) -> Prepared:
        """The batches, with what frequencies alone can reach at their masks.

        Raises:
            ConfigError, DataError, StorageError: as `BatchStream`.
        """
        tokens, facts = self.corpus, {}
        reference = reference_of(config, tokens.tokenizer, threads)
        if reference is not None:
            facts["reference_sha256"] = reference.fingerprint
        stream = BatchStream(tokens.train, config, tokens.tokenizer, reference=reference)
        if stream.word_list_sha256 is not None:
            facts["word_list_sha256"] = stream.word_list_sha256
        counts = piece_counts(tokens.train, tokens.tokenizer)
        known = references(counts, config.masking.mask_share, config.masking.random_share)
        return Prepared(stream, tokens.train.n_tokens, known, facts)
