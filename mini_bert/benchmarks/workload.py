"""What every contestant computes: the same weights, the same batches, the same masks, the same sentences.

Token ids are drawn, not read: the benchmark needs no corpus, and the time of a step does not depend on what the tokens
mean. Their frequencies follow Zipf's law, as those of text do, because the gradient of an embedding row that is used
often is a longer sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch
from mini_bert.config.schema import MaskingConfig, ModelConfig
from mini_bert.data.masking import Pieces, mask_rows
from mini_bert.random_streams import RandomStream
from mini_bert.text.pieces import SPECIALS

PAD, _, CLS, SEP, MASK = range(len(SPECIALS))
MASKING_STREAM = "masking"

_TEXT = (
    "the a an of in to and is are was returns given new list file name value order string number object default path "
    "method class function module argument type error line text data call first last next same other each when where "
    "which this that not only all any one two three sequence iterable index key items set map read write open close"
)
WORDS = tuple(_TEXT.split())
"""Words of the vocabulary; a sentence to fill is made of them."""

TEMPLATES = (
    "the {} of this {} returns a new [MASK] in the given {} .",
    "when the {} is not given , the default [MASK] of each {} is",
    "this {} and the next {} are the same [MASK] of the first line",
)


@dataclass(frozen=True)
class Workload:
    """A folder of inputs, and the settings that go with them."""

    folder: str
    rows: int
    """B"""
    tokens: int
    """T"""
    batches: int
    """so many different batches are cycled through"""
    seed: int
    lr: float
    shape: dict[str, Any]
    """fields of ModelConfig"""
    model: str
    """a Hugging Face model folder with the weights that all begin with"""

    @property
    def model_config(self) -> ModelConfig:
        """The shape of the network."""
        return ModelConfig(**self.shape)

    def text(self) -> NDArray[np.int32]:
        """`[N, B, T]` ids before masking."""
        with np.load(Path(self.folder) / "batches.npz") as arrays:
            return arrays["text"]

    def masked_batches(self) -> list[Batch]:
        """The N batches as a step sees them."""
        with np.load(Path(self.folder) / "batches.npz") as arrays:
            input_ids, positions, targets, ends = (
                arrays[name] for name in ("input_ids", "positions", "targets", "ends")
            )
        starts = np.concatenate(([0], ends[:-1]))
        return [
            Batch(ids, masked_positions=positions[start:end], target_ids=targets[start:end])
            for ids, start, end in zip(input_ids, starts, ends, strict=True)
        ]

    def masked_tokens(self) -> float:
        """The mean number of masked tokens in a batch."""
        return float(np.mean([batch.masked_positions.size for batch in self.masked_batches()]))  # type: ignore[union-attr]


def make_workload(
    folder: Path, shape: ModelConfig, *, model: Path, rows: int, batches: int = 8, seed: int = 0, lr: float = 1e-4
) -> Workload:
    """Write N batches `[B, T]` of Zipf-distributed ids, masked as in training, to `folder`; `model` has the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tokens = shape.max_position_embeddings
    ordinary = shape.vocab_size - len(SPECIALS)
    frequencies = 1.0 / (np.arange(ordinary) + 2.7)  # Zipf's law with Mandelbrot's shift
    text = rng.choice(ordinary, (batches, rows, tokens), p=frequencies / frequencies.sum()) + len(SPECIALS)
    text[:, :, 0], text[:, :, -1] = CLS, SEP
    text = text.astype(np.int32)
    masked = [
        mask_rows(ids, pieces(shape.vocab_size), MaskingConfig(), RandomStream(seed, MASKING_STREAM, step))
        for step, ids in enumerate(text)
    ]
    np.savez(
        folder / "batches.npz",
        text=text,
        input_ids=np.stack([row.input_ids for row in masked]),
        positions=np.concatenate([row.masked_positions for row in masked]),
        targets=np.concatenate([row.target_ids for row in masked]),
        ends=np.cumsum([row.masked_positions.size for row in masked]),
    )
    return Workload(str(folder), rows, tokens, batches, seed, lr, shape.model_dump(mode="json"), str(model))


def pieces(vocab_size: int) -> Pieces:
    """What masking has to know of the benchmark's vocabulary."""
    special = np.zeros(vocab_size, bool)
    special[: len(SPECIALS)] = True
    return Pieces(
        mask_id=MASK,
        pad_id=PAD,
        special=special,
        ordinary_ids=np.flatnonzero(~special).astype(np.int32),
        continuation=np.zeros(vocab_size, bool),
    )


def vocabulary(size: int) -> list[str]:
    """Specials, letters, words and, to fill it up, words that no sentence here uses."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = [*SPECIALS, ".", ",", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    known = list(dict.fromkeys(known))
    return [*known, *(f"word{number}" for number in range(size - len(known)))][:size]


def sentences(count: int = 32) -> list[str]:
    """Sentences of 16 tokens, `[CLS]` and `[SEP]` included, with one `[MASK]` each."""
    nouns = [word for word in WORDS if len(word) > 3]
    return [
        TEMPLATES[number % len(TEMPLATES)].format(*(nouns[(7 * number + 11 * slot) % len(nouns)] for slot in range(3)))
        for number in range(count)
    ]
