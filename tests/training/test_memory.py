"""Estimated memory: beside what Python's own accounting sees, and what is decided by it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mini_bert.batch import Batch, Question
from mini_bert.config.load import load_config
from mini_bert.config.schema import Config
from mini_bert.errors import ConfigError
from mini_bert.evaluation.masked_lm import MASKED_AT_ONCE, evaluate_masked_lm
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.model.tasks import task_losses_and_gradients, with_task_heads
from mini_bert.random_streams import RandomStream
from mini_bert.training import memory
from mini_bert.training.memory import choose_in_flight, estimate_training_bytes, require_room, training_bytes
from mini_bert.training.parallel import ShardPool

SMALL = {"model.vocab_size": 2000, "train.batch_size": 32, "evaluation.batch_size": 32, "run.threads": 1}
DROPOUT = {"model.hidden_dropout_prob": 0.1, "model.attention_probs_dropout_prob": 0.1}


def config_of(*presets: str, **settings: object) -> Config:
    changed = {name.replace("__", "."): value for name, value in settings.items()}
    return load_config(["training/pretraining", *presets], {**SMALL, **changed})


def random_batch(config: Config, rows: int, rate: float | None = None) -> Batch:
    T, V = config.model.max_position_embeddings, config.model.vocab_size
    rng = np.random.default_rng(0)
    ids = rng.integers(5, V, (rows, T)).astype(np.int32)
    counts = np.floor((rate or config.masking.rate) * (T - 2) + rng.random(rows)).astype(int)
    positions = np.concatenate([b * T + np.sort(rng.permutation(T)[:n]) for b, n in enumerate(counts)])
    return Batch(ids, masked_positions=positions, target_ids=ids.reshape(-1)[positions])


def traced_peak(function) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        DROPOUT,
        {"model.attention_probs_dropout_prob": 0.1},
        {"model.vocab_size": 12_000},
        {"model.max_position_embeddings": 160, "model.num_attention_heads": 8},
        {"model.hidden_act": "relu", "model.num_hidden_layers": 3},
        {"model.num_hidden_layers": 1, "masking.rate": 0.3},
        {"model.intermediate_size": 1500},
        {"model.norm_placement": "pre", "model.norm": "rms_norm", "model.num_hidden_layers": 3},
        {"model.feed_forward": "gated", "model.use_bias": False, **DROPOUT},
        {"model.position_embedding_type": "rotary", "model.num_hidden_layers": 4},
        {"model.position_embedding_type": "relative_key", "model.attention_gate": "head"},
        {"model.position_embedding_type": "t5_bias", "model.attention_gate": "element", "model.num_hidden_layers": 4},
        {
            "model.position_embedding_type": "relative_key",
            "model.max_position_embeddings": 160,
            "model.num_attention_heads": 8,
        },
        {"model.position_embedding_type": "alibi", "model.max_position_embeddings": 160, **DROPOUT},
        {"train.activation_checkpointing": True, "model.num_hidden_layers": 6},
        {
            "train.activation_checkpointing": True,
            "model.num_hidden_layers": 4,
            "model.norm_placement": "pre",
            **DROPOUT,
        },
        {"train.activation_checkpointing": True, "model.num_hidden_layers": 1},
    ],
)
def test_arrays_of_a_shard_and_of_an_evaluation(settings):
    config = load_config(["training/pretraining", "model/tiny"], {**SMALL, **settings, "train.shards": 2})
    model, gradients, batch = MiniBERT(config.model), Parameters(config.model), random_batch(config, 16)

    def shard() -> None:
        again = config.train.activation_checkpointing
        model.mlm_loss_and_gradients(batch, gradients, RandomStream(0, "dropout", 1), activation_checkpointing=again)

    shard()
    parts = training_bytes(config, in_flight=1)
    assert parts.activations / memory._SCATTERED == pytest.approx(traced_peak(shard), rel=0.08)
    scored = [random_batch(config, 32, rate=0.15)]
    evaluation = traced_peak(lambda: evaluate_masked_lm(model, scored))
    assert parts.evaluation / memory._SCATTERED == pytest.approx(evaluation, rel=0.1)


@pytest.mark.parametrize("tasks", [("next_sentence",), ("token_order",), ("next_sentence", "replaced_token")])
def test_arrays_of_a_shard_of_several_tasks(tasks):
    weights = {f"tasks.{task}": 1.0 for task in tasks}
    config = load_config(["training/pretraining", "model/tiny"], {**SMALL, **weights, "train.shards": 2})
    config = with_task_heads(config)
    model, gradients, batch = MiniBERT(config.model), Parameters(config.model), random_batch(config, 16)
    T = batch.input_ids.shape[1]
    places = {"next_sentence": np.arange(0, 16 * T, T)}
    others = np.setdiff1d(np.arange(16 * T), batch.masked_positions)
    questions = [Question("masked_lm", batch.masked_positions, batch.target_ids, 1.0, batch.target_ids.size)]
    for task in tasks:
        positions = places.get(task, others)
        questions.append(Question(task, positions, positions % 2, 1.0, positions.size))
    batch = batch._replace(questions=tuple(questions))

    def shard() -> None:
        task_losses_and_gradients(model, batch, gradients, RandomStream(0, "dropout", 1))

    shard()
    assert 1.0 <= training_bytes(config, in_flight=1).activations / memory._SCATTERED / traced_peak(shard) < 1.15


def test_initial_values_are_drawn_in_what_is_said():
    config = config_of("model/tiny", model__vocab_size=4000)
    parts = training_bytes(config, in_flight=1)
    drawn = traced_peak(lambda: MiniBERT(config.model)) - parts.parameters
    assert parts.drawing == pytest.approx(drawn, rel=0.08)


@pytest.mark.parametrize(("in_flight", "shards"), [(1, 4), (2, 4), (4, 4), (2, 7), (1, 1)])
def test_gradient_buffers_are_those_that_the_pool_makes(in_flight, shards):
    config = config_of("model/debug", train__shards=shards)
    model = MiniBERT(config.model)
    with ShardPool(in_flight, shards, in_flight=in_flight) as pool:
        pool.gradients(model, random_batch(config, 32))
        buffers = sum(gradients.buffer.nbytes for gradients in pool._gradients)
    parts = training_bytes(config, in_flight)
    assert parts.gradients == buffers
    assert (parts.parameters, parts.moments) == (model.parameters.buffer.nbytes, 2 * model.parameters.buffer.nbytes)


def test_parameters_of_the_default_model_stand_beside_each_other_six_times():
    config = load_config(["training/pretraining"], {"train.batch_size": 4, "evaluation.batch_size": 1})
    parts = training_bytes(config, in_flight=1)
    assert parts.state == 6 * 4 * 2_966_144
    assert parts.state < parts.peak - parts.process < 1.5 * parts.state


def test_more_ranks_need_less_each():
    config = config_of("model/tiny", train__shards=8, train__batch_size=256, evaluation__batch_size=1)
    one, four = training_bytes(config, 4), training_bytes(config, 4, ranks=4)
    assert four.activations * 2 == pytest.approx(one.activations, rel=0.01)
    assert four.gradients < one.gradients
    assert training_bytes(config, 4, ranks=100) == training_bytes(config, 4, ranks=8)


def test_auto_takes_as_many_shards_as_fit_with_a_reserve(monkeypatch):
    config = config_of("model/tiny", train__shards=8, train__batch_size=512)
    needed = {k: estimate_training_bytes(config, k, process_bytes=0) for k in range(1, 9)}
    for fit in (1, 2, 5):
        monkeypatch.setattr(memory, "available_bytes", lambda fit=fit: int(memory.WITH_RESERVE * needed[fit]) + 1)
        assert choose_in_flight(config, 8) == fit
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    assert choose_in_flight(config, 8) == 1
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert choose_in_flight(config, 8) == 8
    assert choose_in_flight(config, 100) == 8
    assert choose_in_flight(config, 100, ranks=4) == 2


def test_a_number_is_taken_at_its_word(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    config = config_of("model/tiny", train__in_flight=3)
    assert [choose_in_flight(config, threads) for threads in (1, 2, 4)] == [1, 2, 3]


def test_ranks_of_one_host_share_its_memory(monkeypatch):
    config = config_of("model/tiny", train__shards=8, train__batch_size=512)
    needed = estimate_training_bytes(config, 1, process_bytes=0, ranks=2)
    monkeypatch.setattr(memory, "available_bytes", lambda: int(1.5 * needed))
    with pytest.raises(ConfigError):
        require_room(config, 1, ranks=2)
    monkeypatch.setenv("MPI_LOCALNRANKS", "1")
    require_room(config, 1, ranks=2)


def advised(error: ConfigError) -> dict[str, str]:
    words = str(error).split(" with ")[-1].rstrip(".").split()
    return {
        name.removeprefix("--").replace("-", "_"): int(value)
        for name, value in zip(words[::2], words[1::2], strict=True)
    }


@pytest.mark.parametrize(
    ("share", "settings"),
    [
        (0.99, {"train.in_flight": 4}),
        (0.55, {"train.batch_size": 256}),
        (0.2, {"train.batch_size": 2048}),
        (0.75, {"evaluation.batch_size": 512}),
        (0.0001, {"train.batch_size": 10_000_000}),
    ],
)
def test_what_is_advised_fits(share, settings, monkeypatch):
    def of(changes: dict[str, int]) -> Config:
        return load_config(["training/pretraining", "model/tiny"], {**SMALL, **settings, **changes})

    available = int(share * estimate_training_bytes(of({}), 4, process_bytes=0))
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    with pytest.raises(ConfigError, match="MB") as refusal:
        require_room(of({}), 4)
    changes = advised(refusal.value)
    assert changes["train.in_flight"] == 1
    require_room(of(changes), choose_in_flight(of(changes), 4))


def test_a_model_that_is_too_large_is_said_to_be_the_model(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**10)
    config = config_of(model__hidden_size=16384, model__num_hidden_layers=100)
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"model: got a training that needs .* GB.*Make the model smaller"):
        require_room(config, 2)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_nothing_is_refused_where_the_system_does_not_tell(monkeypatch):
    huge = config_of(model__hidden_size=16384, model__num_hidden_layers=100)
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    with pytest.raises(ConfigError):
        require_room(huge, 2)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    require_room(huge, 2)


def test_an_evaluation_scores_as_much_at_once_as_memory_is_planned_for() -> None:
    assert memory._SCORED_AT_ONCE == MASKED_AT_ONCE
