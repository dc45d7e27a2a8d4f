"""Who is assessed: a model, the folder that it lies in, and the text that it was trained on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.config.schema import Config, DataConfig
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import DataError
from mini_bert.inference.kneser_ney import KneserNey
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.probing.minimal_pairs import COUNTED_TOKENS, QUICK_COUNTED_TOKENS, sentence_ngrams

if TYPE_CHECKING:
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT


@dataclass
class Subject:
    """A model with all that its measurements need; what takes time is made once, when it is first asked for."""

    name: str
    """How it was called."""
    folder: Path
    model: MiniBERT
    config: Config
    """Of its run, with the model's own shape: held-out rows, masks, seed, and the text that it is scored on."""
    trained_on: DataConfig | None
    """The text of its run; None: not known."""
    quick: bool
    told: Progress
    threads: int | None = None
    has_text: bool = True
    """Whether there is a text to score it on."""
    again: bool = False
    """Whether also what is known is measured."""

    @cached_property
    def tokens(self) -> TokenCorpus:
        """What it is scored on, in its own pieces, and what n-grams are counted on.

        Scored is what its run held out, beside what it was trained on; or of another text every document that the run
        was not trained on. Where the text of its run is not known, or not to be had, another text is split in two.

        Raises:
            DataError: the text is not to be had, cannot be read, or has nothing that the run was not trained on.
        """
        if not self.has_text:
            raise DataError(
                "--corpus",
                got=f"none, and it is not known what {self.name} was trained on",
                expected="a text to score it on",
            )
        if self.trained_on in (None, self.config.data):
            return self._opened(self.config.data)
        asked = self._opened(
            self.config.data, all_held_out=True
        )  # before the longer text: a wrong name is said at once
        if (own := self._training_text) is None:
            return self._opened(self.config.data)
        held_out = asked.held_out.without(own.train)
        if not held_out.n_documents:
            raise DataError(
                "--corpus",
                got=f"{', '.join(self.config.data.corpus)}, every document of which {self.name} was trained on",
                expected="a text with something new",
            )
        return asked._replace(train=own.train, held_out=held_out)

    @cached_property
    def _training_text(self) -> TokenCorpus | None:
        """What it was trained on, and what of that its run held out; None where that is not known or not to be had."""
        try:
            return None if self.trained_on is None else self._opened(self.trained_on)
        except DataError:
            return None

    def _opened(self, data: DataConfig, *, all_held_out: bool = False) -> TokenCorpus:
        return open_tokens(
            data,
            self.config.tokenizer,
            self.model.config.vocab_size,
            tokenizer=self.model.tokenizer,
            progress=self.told,
            all_held_out=all_held_out,
        )

    @cached_property
    def ngrams(self) -> KneserNey:
        """A 5-gram of the sentences of the training text.

        Raises:
            DataError: as `tokens`.
        """
        text = self.tokens.train
        self.told("counting n-grams", 0, 0)
        return sentence_ngrams(
            text, self.model.config.vocab_size, QUICK_COUNTED_TOKENS if self.quick else COUNTED_TOKENS
        )

    @cached_property
    def sha256(self) -> str:
        """Of weights, architecture and vocabulary: what decides every answer."""
        digest = hashlib.sha256(self.model.parameters.buffer.tobytes())
        digest.update(json.dumps(self.model.config.model_dump(mode="json"), sort_keys=True).encode())
        digest.update(tokenizer_of(self.model).fingerprint.encode())
        return digest.hexdigest()

    @property
    def steps_done(self) -> int | None:
        """Of its run, as its folder is called; None where it is called otherwise."""
        name = re.fullmatch(r"(?:checkpoint|step)-(\d+)", self.folder.resolve().name)
        return None if name is None else int(name[1])

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain values that say which model it is."""
        shape = self.model.config
        return {
            "name": self.name,
            "sha256": self.sha256,
            "parameters": int(self.model.parameters.buffer.size),
            "layers": shape.num_hidden_layers,
            "hidden_size": shape.hidden_size,
            "corpus": None if self.trained_on is None else list(self.trained_on.corpus),
            "vocabulary": self.model.tokenizer and self.model.tokenizer.fingerprint,
            "held_out_text": self.has_text
            and {
                **self.config.data.model_dump(mode="json"),
                **self._documents(),
                "mask_seed": self.config.evaluation.mask_seed,
                "length": shape.max_position_embeddings,
            },
        }

    def _documents(self) -> Mapping[str, Any]:
        """What of the text is scored, how much of that is not new, and what n-grams are counted on; nothing where the
        text was not read."""
        if "tokens" not in self.__dict__:
            return {}
        scored = self.tokens.held_out
        its_own = self.config.data == self.trained_on
        known_text = its_own or self._training_text is not None
        return {
            "documents": scored.n_documents,
            "of_documents": scored.whole().n_documents,
            "known": scored.share_known_to(self.tokens.train) if known_text and not its_own else None,
            "beside": "training text" if known_text else "the rest",
        }
