"""A fine-tuned folder is a BertForSequenceClassification: the same classes and logits in transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled_toy import TOKENIZER, nearness, saved, sentiment

from mini_bert.config.load import load_config
from mini_bert.evaluation.finetuning import Finetuning
from mini_bert.inference.text_labels import label_scores
from mini_bert.model.pretrained import from_pretrained

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("examples", [sentiment(60), nearness(60)], ids=["classes", "scores"])
def test_logits_are_those_of_transformers(examples, tmp_path: Path) -> None:
    import torch
    import transformers

    settings = {"run.directory": str(tmp_path / "runs"), "run.name": "x", "run.threads": 1, "train.batch_size": 16}
    config = load_config(["training/finetuning"], {**settings, "tasks.masked_lm": 0.0, "tasks.classification": 1.0})
    folder = saved(tmp_path / "given")
    trial = Finetuning(config, from_pretrained(folder), folder, examples, epochs=1).trial("x", 0)
    theirs, info = transformers.BertForSequenceClassification.from_pretrained(
        trial.run / "model", output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.num_labels == max(1, len(examples.classes))
    if examples.classes:
        assert theirs.config.id2label == dict(enumerate(examples.classes))
    texts = [(e.text, e.pair) for e in examples.examples[:20]]
    ours = label_scores(trial.model, texts)
    for (text, pair), row in zip(texts, ours, strict=True):
        ids, types = TOKENIZER.encode_row(text, pair, max_length=16)
        with torch.no_grad():
            logits = theirs(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits[0].numpy()
        np.testing.assert_allclose(row, logits, atol=1e-5)
