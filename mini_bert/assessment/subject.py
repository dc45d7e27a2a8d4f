"""Who is assessed: a model, the folder that it lies in, and the text that it was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.config.schema import Config
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.inference.kneser_ney import KneserNey
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
    """Of its run, with the model's own shape: corpus, held-out rows, masks, seed."""
    quick: bool
    told: Progress
    threads: int | None = None

    @cached_property
    def tokens(self) -> TokenCorpus:
        """The text that it was trained on, or that `--corpus` names, in its own pieces.

        Raises:
            DataError: the text is not to be had, or cannot be read.
        """
        data, V = self.config.data, self.model.config.vocab_size
        return open_tokens(data, self.config.tokenizer, V, tokenizer=self.model.tokenizer, progress=self.told)

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
        assert self.model.tokenizer is not None
        digest = hashlib.sha256(self.model.parameters.buffer.tobytes())
        digest.update(json.dumps(self.model.config.model_dump(mode="json"), sort_keys=True).encode())
        digest.update(self.model.tokenizer.fingerprint.encode())
        return digest.hexdigest()

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
            "corpus": list(self.config.data.corpus),
            "vocabulary": self.model.tokenizer and self.model.tokenizer.fingerprint,
            "held_out_text": {
                **self.config.data.model_dump(mode="json"),
                "mask_seed": self.config.evaluation.mask_seed,
                "length": shape.max_position_embeddings,
            },
        }
