"""Every piece of every study of the package can be trained: it is not found out after an hour that one cannot."""

from __future__ import annotations

import math

import pytest

from mini_bert.data.tokens import open_tokens
from mini_bert.studies.pieces import config_of, pieces_of
from mini_bert.studies.reading import read_study, study_names
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.pretrain import pretrain


@pytest.mark.slow
@pytest.mark.parametrize("name", study_names())
def test_every_piece_can_be_trained(name, study_corpus, tmp_path):
    study = read_study(name)
    small = {**study.settings, "model.vocab_size": 96, "train.steps": 4, "train.log_every": 1}
    study = study.model_copy(
        update={"extends": ("training/debugging",), "corpus": (study_corpus,), "settings": {}, "start": None}
    )
    for number, (label, piece) in enumerate(pieces_of(study).items()):
        settings = {**small, **piece.settings}
        if settings.get("train.batch_size", 0) > 64:
            settings["train.batch_size"] = 64
        config = config_of(study, settings, train__steps=4, run__directory=str(tmp_path), run__name=f"piece-{number}")
        tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size, workers=1)
        result = pretrain(config, tokens=tokens)
        records = [r for r in read_metrics(result.run / "metrics.jsonl") if r["kind"] == "train"]
        assert all(math.isfinite(record["loss"]) for record in records), label
