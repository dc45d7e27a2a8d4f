"""The classifier's outputs for many texts: those of the plain forward pass, whatever shares a batch."""

from __future__ import annotations

import numpy as np
import pytest
from labelled_toy import TOKENIZER, nearness, sentiment, small_model

from mini_bert.data import text_rows
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.inference.text_labels import label_scores
from mini_bert.model.bert import MiniBERT


def texts_of(examples) -> list[tuple[str, str | None]]:
    return [(e.text, e.pair) for e in examples.examples]


@pytest.mark.parametrize("examples", [sentiment(30), nearness(30)], ids=["texts", "pairs"])
def test_outputs_are_those_of_one_forward_pass_a_text(examples) -> None:
    model = small_model(heads=("classifier",), num_labels=3)
    model.parameters.buffer[...] += 0.1 * np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    found = label_scores(model, texts_of(examples))
    for row, (text, pair) in zip(found, texts_of(examples), strict=True):
        ids, types = TOKENIZER.encode_row(text, pair, max_length=16)
        logits, _ = model.forward(np.array([ids]), token_type_ids=np.array([types]), head="classifier")
        np.testing.assert_allclose(row, logits[0], atol=2e-6)


def test_small_batches_change_nothing_and_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(heads=("classifier",))
    told: list[int] = []
    whole = label_scores(model, texts_of(sentiment(30)), told.append)
    assert told[-1] == 30
    monkeypatch.setattr(text_rows.padded_batches, "__kwdefaults__", {"tokens": 16})
    np.testing.assert_allclose(label_scores(model, texts_of(sentiment(30))), whole, atol=2e-6)


def test_a_model_without_head_or_tokenizer_is_refused_and_infinity_is_named() -> None:
    with pytest.raises(Exception, match="classifier"):
        label_scores(small_model(), [("the film", None)])
    model = small_model(heads=("classifier",))
    with pytest.raises(InvalidInputError, match="without a tokenizer"):
        label_scores(MiniBERT.from_parameters(model.parameters), [("the film", None)])
    model.parameters["W1_0"][...] = 1e30
    with pytest.raises(NonFiniteError):
        label_scores(model, [("the film", None)])
