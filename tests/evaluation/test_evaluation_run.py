"""The whole evaluation of a small model on a small corpus."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mini_bert.config.schema import Config, DataConfig, ModelConfig, RunConfig
from mini_bert.data.batches import held_out_batches
from mini_bert.data.tokens import open_tokens
from mini_bert.evaluation.every_token import every_token, untouched
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.evaluation.run import LABELS, evaluate_run
from mini_bert.inference.kneser_ney import fit_kneser_ney
from mini_bert.model.bert import MiniBERT

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "one",
    "old",
    "dog",
    "ran",
    "after",
    "it",
    "while",
    "birds",
    "sang",
    "in",
    "green",
    "trees",
    "near",
    "home",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    for number in range(12):
        words = [WORDS[i % len(WORDS)] for i in np.cumsum(rng.integers(1, 3, 900))]
        sentences = [" ".join(words[start : start + 9]) + "." for start in range(0, 900, 9)]
        (folder / f"{number}.txt").write_text("\n".join(sentences), encoding="utf-8")
    config = Config(
        model=ModelConfig(
            vocab_size=70,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
        ),
        data=DataConfig(corpus=(str(folder / "*.txt"),), held_out_fraction=0.2, held_out_rows=150),
        run=RunConfig(seed=3),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINI_BERT_CACHE", str(folder / "cache"))
        yield config, open_tokens(config.data, config.tokenizer, config.model.vocab_size)


def test_one_table_with_everything_in_it(corpus):
    config, tokens = corpus
    model = MiniBERT(config.model, seed=11, tokenizer=tokens.tokenizer)
    told = []
    result = evaluate_run(model, config, tokens, progress=lambda *now: told.append(now), kneser_ney=True)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    lines = {line["name"]: line for line in result["table"]}
    assert list(lines) == list(LABELS)
    assert len({(line["n_masked"], line["n_rows"]) for line in lines.values()}) == 1

    batches = list(held_out_batches(tokens.held_out, config, tokens.tokenizer))
    assert lines["model"]["loss"] == evaluate_masked_lm(model, batches).loss
    assert lines["untrained"]["loss"] == evaluate_masked_lm(MiniBERT(config.model, seed=3), batches).loss
    assert lines["untrained"]["loss"] == pytest.approx(np.log(70), abs=0.1)
    assert lines["neighbours_and_shown"]["loss"] < lines["neighbours"]["loss"] < lines["bigram"]["loss"]
    assert lines["bigram"]["loss"] < lines["unigram"]["loss"] < lines["model"]["loss"]
    ngrams = fit_kneser_ney(tokens.train.documents(), config.model.vocab_size)
    assert lines["kneser_ney"]["loss"] == evaluate_masked_lm(ngrams, batches).loss
    assert lines["kneser_ney"]["loss"] < lines["unigram"]["loss"]
    assert result["baselines"]["kneser_ney_tokens"] == tokens.train.n_tokens
    for line in result["differences"]:
        assert line["loss"] == pytest.approx(lines["model"]["loss"] - lines[line["name"]]["loss"], rel=1e-9)
        assert line["interval"][0] < line["loss"] < line["interval"][1]
    assert result["baselines"]["n_tokens"] == tokens.train.n_tokens
    assert result["parameters"] == model.parameters.buffer.size
    assert {what for what, *_ in told} == {"counting neighbours", "counting 5-grams", "scoring: every token"} | {
        f"scoring: {label}" for label in LABELS.values()
    }
    rows = result["held_out"]["rows"]
    assert told[-1] == ("scoring: every token", rows, rows)


def test_the_untrained_model_begins_as_the_run_did(corpus):
    """Its folder does not say how; the run's configuration does."""
    config, tokens = corpus
    changed = {"decoder_bias_init": "unigram", "initializer": "orthogonal"}
    config = config.model_copy(update={"model": config.model.model_copy(update=changed)})
    trained = MiniBERT(config.model.model_copy(update={"decoder_bias_init": "zeros"}), tokenizer=tokens.tokenizer)
    result = evaluate_run(trained, config, tokens, quick=True)
    lines = {line["name"]: line["loss"] for line in result["table"]}
    assert lines["untrained"] == pytest.approx(lines["unigram"], abs=0.15)
    assert lines["untrained"] < lines["model"] - 0.5


def test_quick_is_a_part_of_it(corpus):
    config, tokens = corpus
    model = MiniBERT(config.model, tokenizer=tokens.tokenizer)
    quick, full = (evaluate_run(model, config, tokens, quick=q) for q in (True, False))
    assert quick["held_out"]["rows"] == 128 < full["held_out"]["rows"]
    assert quick["every_token"] is None


def test_every_token_asks_for_the_original(corpus):
    config, tokens = corpus
    special = tokens.tokenizer.special_ids
    for batch in held_out_batches(tokens.held_out, config, tokens.tokenizer):
        asked = every_token(batch, special)
        original = batch.input_ids.copy().reshape(-1)
        original[batch.masked_positions] = batch.target_ids
        expected = [p for p, i in enumerate(original.tolist()) if i not in special]
        assert asked.masked_positions.tolist() == expected
        assert asked.target_ids.tolist() == original[expected].tolist()
        assert asked.input_ids is batch.input_ids
        pairs = zip(batch.input_ids.reshape(-1).tolist(), original.tolist(), strict=True)
        assert untouched(asked) == sum(i == j for i, j in pairs if j not in special)
