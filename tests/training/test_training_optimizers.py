"""Every optimiser in training: the same bits on any threads and after any resume, saved, counted and timed as it is."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.load import load_config
from mini_bert.config.schema import Config, OptimizerConfig
from mini_bert.errors import CheckpointError, InvalidInputError
from mini_bert.interop import manifest, safetensors_guard
from mini_bert.model.bert import MiniBERT
from mini_bert.model.pretrained import from_pretrained
from mini_bert.optim.layout import length
from mini_bert.optim.optimizer import OPTIMIZERS, Settings
from mini_bert.training import course as course_module
from mini_bert.training.checkpoint import load_checkpoint, model_and_optimizer_sha256, save_checkpoint
from mini_bert.training.forecast import _pieces
from mini_bert.training.incident import incident_text, not_finite_in
from mini_bert.training.layout import layout_of
from mini_bert.training.memory import training_bytes
from mini_bert.training.parallel import ShardPool
from mini_bert.training.pretrain import pretrain
from mini_bert.training.ranks import Ranks
from mini_bert.training.report import Report
from mini_bert.training.step import TrainingState, optimizer_settings, training_step

KINDS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in OPTIMIZERS},
    "lookahead": {"lookahead": 3},
    "averaged": {"ema_decay": 0.8},
    "all": {"name": "muon", "lookahead": 2, "ema_decay": 0.8, "layer_decay": 0.7, "position_lr_factor": 2.0},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def config_of(kind: str) -> Config:
    optimizer = {f"optimizer.{name}": value for name, value in KINDS[kind].items()}
    return load_config(["training/debugging"], {"train.steps": 40, "train.lr": 3e-3, **optimizer})


def batch_of(config: Config, step: int) -> Batch:
    rng = np.random.default_rng(step)
    ids = rng.integers(5, config.model.vocab_size, (8, config.model.max_position_embeddings)).astype(np.int32)
    positions = np.flatnonzero(rng.random(ids.shape) < 0.15)
    return Batch(ids, masked_positions=positions, target_ids=ids.reshape(-1)[positions])


def trained(config: Config, steps: int, threads: int = 1, state: TrainingState | None = None) -> TrainingState:
    state = state or TrainingState.fresh(MiniBERT(config.model, seed=3), config.optimizer)
    with ShardPool(threads, config.train.shards) as pool:
        for _ in range(steps):
            training_step(state, batch_of(config, state.step), config, 40, pool)
    return state


def bits(state: TrainingState) -> dict[str, bytes]:
    return {"parameters": state.model.parameters.buffer.tobytes()} | {
        k: v.tobytes() for k, v in state.optimizer.items()
    }


def test_settings_are_those_of_the_configuration() -> None:
    assert optimizer_settings(OptimizerConfig()) == Settings()
    assert set(Settings._fields) == set(OptimizerConfig.model_fields)
    for name in OPTIMIZERS:
        assert OptimizerConfig(name=name).name == name


@every_kind
def test_threads_change_no_bit(kind: str) -> None:
    one = trained(config_of(kind), 5)
    for threads in (2, 4):
        assert bits(trained(config_of(kind), 5, threads)) == bits(one)


@every_kind
@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_saved_state_goes_on_as_if_it_had_not_been_saved(kind: str, stop: int, tmp_path: Path) -> None:
    config = config_of(kind)
    whole, part = trained(config, 8), trained(config, stop)
    restored = load_checkpoint(save_checkpoint(tmp_path, part, {}, {})).state
    assert bits(restored) == bits(part)
    assert list(restored.optimizer) == list(part.optimizer)
    rest = trained(config, 8 - stop, state=restored)
    assert bits(rest) == bits(whole)
    assert model_and_optimizer_sha256(rest) == model_and_optimizer_sha256(whole)


@every_kind
def test_names_on_the_disk(kind: str, tmp_path: Path) -> None:
    state = trained(config_of(kind), 2)
    saved = save_checkpoint(tmp_path, state, {}, {})
    arrays, metadata = safetensors_guard.load(saved / "optimizer.safetensors")
    name, around = state.optimizer.name, state.optimizer.around
    assert metadata == {"step": 2} | ({} if name == "adamw" else {"optimizer": name})
    own = {"adamw": "mv", "sgd": "m", "lion": "m", "muon": "mv", "adafactor": ("rows", "columns")}[name]
    kept = {*own, *({"slow"} & {*around}), *({"raw"} if "average" in around else ())}
    assert {key.partition(".")[0] for key in arrays} == kept
    for key, array in arrays.items():
        vector, _, parameter = key.partition(".")
        shape = state.model.parameters[parameter].shape
        assert array.shape == {"rows": shape[:1], "columns": shape[1:]}.get(vector, shape)
    if name == "muon":
        assert "m.W_Q_0" in arrays
        assert "v.W_Q_0" not in arrays
        assert "v.token_embeddings" in arrays


@pytest.mark.parametrize("kind", ["averaged", "all"])
def test_the_model_of_a_checkpoint_is_the_average(kind: str, tmp_path: Path) -> None:
    state = trained(config_of(kind), 3)
    saved = save_checkpoint(tmp_path, state, {}, {})
    people_load = from_pretrained(saved).parameters.buffer
    assert people_load.tobytes() == state.optimizer["average"].tobytes()
    assert people_load.tobytes() != state.model.parameters.buffer.tobytes()
    arrays, _ = safetensors_guard.load(saved / "optimizer.safetensors")
    np.testing.assert_array_equal(arrays["raw.W1_0"], state.model.parameters["W1_0"])


def test_a_run_scores_saves_and_returns_the_average(configured, tokens) -> None:
    """And trains as one that averages nothing."""
    scored: list[bytes] = []

    def evaluate(model: MiniBERT) -> dict[str, float]:
        scored.append(model.parameters.buffer.tobytes())
        return {"loss": 1.0 / len(scored)}

    settings = {"train__steps": 6, "train__evaluate_every": 3}
    averaged = configured(run__name="averaged", optimizer__ema_decay=0.7, **settings)
    result = pretrain(averaged, tokens=tokens, evaluate=evaluate)
    state = load_checkpoint(result.checkpoint).state
    assert len(scored) == 3
    assert scored[-1] == state.optimizer["average"].tobytes() == result.model.parameters.buffer.tobytes()
    raw = pretrain(configured(run__name="raw", **settings), tokens=tokens, evaluate=evaluate)
    assert raw.model.parameters.buffer.tobytes() == state.model.parameters.buffer.tobytes() != scored[2]
    assert scored[0] == scored[3], "before the first step the average is the initial values"


class Stop(Report):
    """Sends a signal to this process when a step is done."""

    def ticked(self, result: Any) -> None:
        if result.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("kind", ["adafactor", "lookahead", "averaged", "all"])
def test_a_run_that_is_stopped_and_resumed_ends_the_same(kind: str, configured, tokens) -> None:
    optimizer = {f"optimizer__{name}": value for name, value in KINDS[kind].items()}
    settings = {"train__steps": 9, "run__threads": 2, **optimizer}
    whole = pretrain(configured(run__name="whole", **settings), tokens=tokens)
    pretrain(configured(run__name="parts", **settings), tokens=tokens, report=Stop())
    parts = pretrain(configured(run__name="parts", run__resume="auto", **settings), tokens=tokens)
    assert parts.step == 9
    assert parts.sha256 == whole.sha256


def test_going_back_brings_back_all_that_is_kept(configured, tokens, monkeypatch) -> None:
    """To a checkpoint, and to step 0."""
    courses: list[course_module.Course] = []
    monkeypatch.setattr(course_module.Course, "save", _remembering(courses, course_module.Course.save))
    optimizer = {f"optimizer__{name}": value for name, value in KINDS["all"].items()}
    config = configured(train__steps=4, train__save_every=2, **optimizer)
    result = pretrain(config, tokens=tokens)
    course = courses[-1]
    course.state.optimizer["slow"][...] = 5
    (checkpoint,) = [path for path in result.checkpoint.parent.iterdir() if path.name == "checkpoint-2"]
    expected = bits(load_checkpoint(checkpoint).state)
    course.go_back()
    assert (course.state.step, bits(course.state)) == (2, expected)
    monkeypatch.setattr(course_module, "_to_go_back_to", lambda run: None)
    course.go_back()
    begun = TrainingState.fresh(MiniBERT(config.model, seed=config.run.seed), config.optimizer)
    assert (course.state.step, bits(course.state)) == (0, bits(begun))


def _remembering(courses: list[Any], save: Any) -> Any:
    def remembering(self: Any, *rest: Any) -> Any:
        courses.append(self)
        return save(self, *rest)

    return remembering


@every_kind
def test_every_rank_gets_what_the_first_one_reads(kind: str, tmp_path: Path) -> None:
    state = trained(config_of(kind), 3)
    saved = save_checkpoint(tmp_path, state, {"tokens": 3}, {})

    class First(Ranks):
        size = 2

        def __init__(self) -> None:
            self.sent: list[Any] = []

        def on_first(self, function: Any) -> Any:
            self.sent.append(function())
            return self.sent[-1]

        def broadcast_array(self, array: Any) -> None:
            self.sent.append(array.copy())

    class Second(First):
        rank = 1

        def on_first(self, function: Any) -> Any:
            return self.sent.pop(0)

        def broadcast_array(self, array: Any) -> None:
            array[...] = self.sent.pop(0)

    first, second = First(), Second()
    course_module.load_on_all(saved, first)
    second.sent = list(first.sent)
    received, progress, _ = course_module.load_on_all(saved, second)
    assert not second.sent
    assert bits(received) == bits(state)
    assert (received.step, received.optimizer.name, progress) == (3, state.optimizer.name, {"tokens": 3})


@every_kind
def test_memory_is_what_is_kept(kind: str) -> None:
    config = config_of(kind)
    state = TrainingState.fresh(MiniBERT(config.model), config.optimizer)
    assert training_bytes(config, 1).moments == sum(vector.nbytes for vector in state.optimizer.values())


@every_kind
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_pieces_that_an_update_is_timed_by_make_it_up(kind: str, threads: int) -> None:
    config, of_the_default_size = config_of(kind), load_config(["training/pretraining"])
    for model in (config.model, of_the_default_size.model):
        layout = layout_of(MiniBERT(model).parameters.table)
        settings = optimizer_settings(config.optimizer)
        pieces = _pieces(layout, settings, threads)
        assert sum(times * length(piece) for piece, times in pieces) == pytest.approx(length(layout))
        assert all(length(piece) <= max(4 * 131_072 * threads, 768 * 192 * threads) for piece, _ in pieces)


def test_a_number_that_is_not_finite_is_found_by_name() -> None:
    config = config_of("all")
    state = trained(config, 1)
    assert not_finite_in(state) is None
    for vector, parameter in (("m", "W1_0"), ("v", "token_embeddings"), ("slow", "b1_1"), ("average", "W2_1")):
        view = state.optimizer.views(vector)[parameter]
        healthy = view.copy()
        view.flat[-1] = np.nan
        assert not_finite_in(state) == f"{vector} of {parameter}"
        view[...] = healthy


def test_an_incident_tells_of_all_that_is_kept() -> None:
    from mini_bert.training.health import Health
    from mini_bert.training.incident import incident

    state = trained(config_of("all"), 2)
    told = incident(Health(), state, config_of("all").health, "A reason.")
    assert {key for part in told["largest"].values() for key in part} == {"parameters", "m", "v", "slow", "average"}
    header = next(line for line in incident_text(told).splitlines() if line.startswith("largest"))
    assert header.split() == ["largest", "parameter", "m", "v", "slow", "average"]


def test_a_state_of_another_optimizer_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"state: got adamw; expected lion"):
        trained(config_of("lion"), 1, state=TrainingState.fresh(MiniBERT(config_of("lion").model)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays, about: about.update(optimizer="sophia"), "'sophia'"),
        (lambda arrays, about: about.update(optimizer=["muon"]), "muon"),
        (lambda arrays, about: about.update(optimizer="adafactor"), "missing or unknown"),
        (lambda arrays, about: arrays.pop("v.W_mlm"), "'v.W_mlm' missing or unknown"),
        (lambda arrays, about: arrays.pop("raw.W_mlm"), "'raw.W_mlm' missing or unknown"),
        (lambda arrays, about: arrays.update({"slow.W_mlm": arrays["slow.W_mlm"].T[:1]}), "slow.W_mlm as float32"),
    ],
)
def test_an_optimizer_file_that_contradicts_itself_is_refused(change, said: str, tmp_path: Path) -> None:
    saved = save_checkpoint(tmp_path, trained(config_of("all"), 1), {}, {})
    file = saved / "optimizer.safetensors"
    arrays, about = safetensors_guard.load(file)
    change(arrays, about)
    parts = safetensors_guard.to_parts(arrays, about)
    file.write_bytes(b"".join(parts))
    _describe_again(saved, parts)
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(saved)


def _describe_again(saved: Path, parts: Any) -> None:
    promised = json.loads((saved / "manifest.json").read_text())
    facts = {name: promised[name] for name in ("step", "model_and_optimizer_sha256")}
    files = {
        path.name: manifest.describe(path.name, [path.read_bytes()])
        for path in saved.iterdir()
        if path.name != "manifest.json"
    }
    manifest.write(saved, facts, files)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("absolute", {"position_embeddings"}),
        ("t5_bias", {"relative_bias"}),
        ("relative_key", {"relative_keys_0", "relative_keys_1"}),
        ("rotary", set()),
        ("alibi", set()),
    ],
)
def test_what_tells_positions_apart_is_known(kind: str, names: set[str]) -> None:
    config = load_config(["training/debugging"], {"model.position_embedding_type": kind, "model.num_hidden_layers": 2})
    layout = layout_of(MiniBERT(config.model).parameters.table)
    assert {tensor.name for tensor in layout if tensor.positions} == names
