"""A whole training of transformers' BertForMaskedLM as it comes, on the batches that ours reads.

As it comes: transformers' own initial values, dropout 0.1, a label of -100 where nothing is masked, logits everywhere,
`torch.optim.AdamW` with its own ε and the decay of ours, the gradient's norm clipped to 1, and transformers' own linear
schedule. Rows, order and masks are those of our batches, and the held-out loss is measured by the same lines of code. A
killed training goes on from its last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream, held_out_batches
from mini_bert.data.tokens import TokenCorpus
from mini_bert.errors import ConfigError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.model.bert import MiniBERT

if TYPE_CHECKING:
    from mini_bert.benchmarks.workload import Workload

STATE_NAME = "state.pt"
CURVE_NAME = "curve.jsonl"
_SAVE_EVERY = 250


class Training:
    """Model, optimiser and schedule of transformers and PyTorch."""

    def __init__(self, config: Config, threads: int) -> None:
        import torch
        from transformers import get_scheduler

        torch.set_num_threads(threads)
        torch.manual_seed(config.run.seed)
        train, steps = config.train, config.train.steps
        assert steps is not None
        self._max_norm = train.max_grad_norm
        self._clip = torch.nn.utils.clip_grad_norm_
        self.model = _model(config)
        self.model.train()
        decay = config.optimizer.weight_decay
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=train.lr, weight_decay=decay)
        warm_up = round(train.warmup_ratio * steps)
        self._schedule = get_scheduler("linear", self._optimizer, num_warmup_steps=warm_up, num_training_steps=steps)

    @staticmethod
    def inputs(batch: Batch) -> dict[str, Any]:
        """A batch as BertForMaskedLM takes it: a label of -100 where nothing is masked."""
        import torch

        labels = np.full(batch.input_ids.size, -100)
        labels[batch.masked_positions] = batch.target_ids
        mask = np.ones(batch.input_ids.shape, np.int64) if batch.attention_mask is None else batch.attention_mask
        return {
            "input_ids": torch.from_numpy(batch.input_ids.astype(np.int64)),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
            "labels": torch.from_numpy(labels.reshape(batch.input_ids.shape)),
        }

    def step(self, inputs: dict[str, Any]) -> float:
        """One update; returns the mean loss in nats."""
        loss = self.model(**inputs).loss
        loss.backward()
        self._clip(self.model.parameters(), self._max_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return float(loss.item())

    def save(self, path: Path, **counters: Any) -> None:
        """Write everything that the next step depends on."""
        import torch

        parts = {"model": self.model, "optimizer": self._optimizer, "schedule": self._schedule}
        contents = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**contents, "random": torch.get_rng_state(), **counters}, f"{path}.new")
        Path(f"{path}.new").replace(path)

    def restore(self, path: Path) -> dict[str, Any]:
        """Go on from what `save` wrote; returns it."""
        import torch

        saved: dict[str, Any] = torch.load(path, weights_only=True)
        for name, part in (("model", self.model), ("optimizer", self._optimizer), ("schedule", self._schedule)):
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"])
        return saved

    def as_ours(self, config: Config) -> MiniBERT:
        """Its weights in our model, which scores faster, and by the same code as ours."""
        ours = MiniBERT(config.model)
        tensors = {name: tensor.detach().numpy() for name, tensor in self.model.state_dict().items()}
        for row in ours.parameters.table:
            tensor = tensors[row.hugging_face]
            ours.parameters[row.name][...] = tensor.T if row.transposed else tensor
        return ours


class TimedStep:
    """A step on batches made beforehand, as the clock measures it; a contestant of benchmarks.duel.

    Option: `config`, all settings.
    """

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        from mini_bert.data.tokens import open_tokens

        config = Config(**options["config"])
        tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
        stream = BatchStream(tokens.train, config, tokens.tokenizer)
        self._training = Training(config, threads)
        self._batches = [self._training.inputs(stream.batch(number)) for number in range(8)]

    def step(self, number: int) -> float:
        """One update; returns the mean loss in nats."""
        return self._training.step(self._batches[number % len(self._batches)])

    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        import torch
        import transformers

        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        return {"versions": versions, "threads": torch.get_num_threads()}


def train(
    folder: Path,
    config: Config,
    tokens: TokenCorpus,
    *,
    threads: int,
    told: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Path:
    """Train `config.train.steps` steps; returns the file of `{"step", "loss", "interval"}`, one record a line.

    Raises:
        ConfigError: a training by another recipe, or of another length, stands in `folder`.
    """
    steps = config.train.steps
    assert steps is not None
    training = Training(config, threads)
    stream = BatchStream(tokens.train, config, tokens.tokenizer)
    held_out = held_out_batches(tokens.held_out, config, tokens.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    curve, state = folder / CURVE_NAME, folder / STATE_NAME
    recipe = _recipe(config)
    done = _restored(training, state, recipe) if state.exists() else 0
    _keep_until(curve, done)
    for step in range(done + 1, steps + 1):
        loss = training.step(training.inputs(stream.batch(step - 1)))
        if step % config.train.evaluate_every == 0 or step == steps:
            result = evaluate_masked_lm(training.as_ours(config), held_out)
            record = {"step": step, "loss": result.loss, "interval": list(result.loss_interval), "train_loss": loss}
            with curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            told(record)
        if step % _SAVE_EVERY == 0 or step == steps:
            training.save(state, step=step, recipe=recipe)
    return curve


def _recipe(config: Config) -> dict[str, Any]:
    """All that decides what is learnt, by `section.name`."""
    whole = config.to_dict()
    whole["train"] = {
        name: value for name, value in whole["train"].items() if name not in ("evaluate_every", "save_every")
    }
    whole["run"] = {"seed": config.run.seed}
    sections = ("model", "tokenizer", "data", "masking", "optimizer", "train", "run")
    return {f"{section}.{name}": json.dumps(value) for section in sections for name, value in whole[section].items()}


def _restored(training: Training, state: Path, recipe: dict[str, Any]) -> int:
    """The step that `state` stands at, with everything restored."""
    saved = training.restore(state)
    begun = saved.get("recipe", {})
    other = [f"{name} {begun.get(name)}" for name in recipe if begun.get(name) != recipe[name]]
    if other:
        raise ConfigError(
            str(state.parent),
            got=f"a training begun with {', '.join(other[:3])}{' …' if len(other) > 3 else ''}",
            expected=", ".join(f"{name} {value}" for name, value in recipe.items() if begun.get(name) != value)[:200],
            advice="Delete the folder to begin anew, or race in another one: --runs FOLDER.",
        )
    return int(saved["step"])


def _model(config: Config) -> Any:
    """BertForMaskedLM of the same shape, with transformers' defaults for everything else."""
    from transformers import BertConfig, BertForMaskedLM

    shape = config.model
    return BertForMaskedLM(
        BertConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            intermediate_size=shape.intermediate_size,
            max_position_embeddings=shape.max_position_embeddings,
        )
    )


def _keep_until(curve: Path, step: int) -> None:
    """Drop records of steps that a kill has undone."""
    if curve.exists():
        lines = [line for line in curve.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        curve.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
