"""A corpus, a vocabulary and a run of 40 steps that take a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.config.load import load_config
from mini_bert.config.schema import Config, ModelConfig
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece
from mini_bert.training.step import TrainingState

SETTINGS: dict[str, object] = {
    "model.vocab_size": 96,
    "train.steps": 40,
    "train.log_every": 3,
    "train.save_every": 100,
    "train.evaluate_every": 100,
    "run.threads": 1,
}


def corpus_text(documents: int = 60, words: int = 60) -> str:
    """Paragraphs of made-up words, the same on every machine."""
    rng = np.random.Generator(np.random.PCG64(5))
    syllables = ["ba", "ke", "lo", "mi", "nu", "ra", "se", "ti"]
    lexicon = ["".join(syllables[i] for i in rng.integers(0, 8, rng.integers(1, 4))) for _ in range(80)]
    paragraphs = [" ".join(lexicon[int(80 * rng.random() ** 2)] for _ in range(words)) + "." for _ in range(documents)]
    return "\n\n".join(paragraphs) + "\n"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number, paragraph in enumerate(corpus_text().split("\n\n")):
        (folder / f"{number:02}.txt").write_text(paragraph)
    return folder


@pytest.fixture(scope="session")
def tokens(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenCorpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINI_BERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = load_config(["training/debugging"], {"data.corpus": [f"{corpus}/*.txt"], **SETTINGS})
        return open_tokens(config.data, config.tokenizer, config.model.vocab_size, workers=1)


@pytest.fixture
def configured(corpus: Path, tmp_path: Path):
    """Make the configuration of a small run, with some settings changed."""

    def make(**changes: Any) -> Config:
        fields = {name.replace("__", "."): value for name, value in changes.items()}
        base = {"data.corpus": [f"{corpus}/*.txt"], "run.directory": str(tmp_path / "runs"), "run.name": "small"}
        return load_config(["training/debugging"], {**base, **SETTINGS, **fields})

    return make


@pytest.fixture
def state() -> TrainingState:
    """A small state whose every number is different."""
    shape = {
        "vocab_size": 40,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
    }
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"]
    made = TrainingState.fresh(MiniBERT(ModelConfig(**shape), tokenizer=WordPiece(pieces)))
    rng = np.random.default_rng(1)
    for vector in made.optimizer.values():
        vector[...] = rng.standard_normal(vector.size)
    made.step = 7
    return made
