"""A task that a very small model learns in seconds: is there a good word among others, or a bad one?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.data.task_sets.labelled import LabelledExample, LabelledSet
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece

FILLERS = ("the", "film", "a", "plot", "was", "and", "cast", "very")
TELLING = (("bad", "dull"), ("good", "fine"))
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLERS, *TELLING[0], *TELLING[1], "not"]
TOKENIZER = WordPiece(WORDS)


def sentiment(count: int = 120, seed: int = 0) -> LabelledSet:
    """Texts of 2 to 9 words, half of each class."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        words = list(rng.choice(FILLERS, rng.integers(1, 9)))
        words.insert(int(rng.integers(0, len(words) + 1)), str(rng.choice(TELLING[number % 2])))
        examples.append(LabelledExample(" ".join(words), None, number % 2))
    return LabelledSet("toy", tuple(examples), ("negative", "positive"))


def nearness(count: int = 80, seed: int = 0) -> LabelledSet:
    """Pairs of texts with a score: how many words of the first are telling ones, and a half more for the second's."""
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        first, second = (list(rng.choice([*FILLERS[:3], "good"], rng.integers(2, 6))) for _ in range(2))
        score = first.count("good") + 0.5 * second.count("good")
        examples.append(LabelledExample(" ".join(first), " ".join(second), score))
    return LabelledSet("toy-scores", tuple(examples), (), "spearman")


def small_model(seed: int = 0, **settings: object) -> MiniBERT:
    """One block of width 16, without a classifier unless one is asked for."""
    shape = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
        "initializer_range": 0.1,
    }
    return MiniBERT(ModelConfig(**{**shape, **settings}), seed=seed, tokenizer=TOKENIZER)


def saved(folder: Path, **settings: object) -> Path:
    """A folder with such a model."""
    small_model(**settings).save_pretrained(folder)
    return folder


def masked_batches() -> list[Batch]:
    """20 rows of ordinary words, a sixth of them hidden."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 18, (20, 12))
    positions = np.sort(rng.permutation(240)[:40])
    targets = ids.ravel()[positions].copy()
    ids.ravel()[positions] = 4
    return [Batch(ids, masked_positions=positions, target_ids=targets)]
