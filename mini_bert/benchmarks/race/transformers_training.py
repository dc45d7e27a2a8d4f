"""A whole training of transformers' BertForMaskedLM as it comes, on the batches that ours reads.

As it comes: transformers' own initial values, dropout 0.1, a label of -100 where nothing is masked, logits everywhere,
`torch.optim.AdamW`, the gradient's norm clipped to 1 and transformers' own linear schedule: what its examples do. Rows,
order and masks are those of our batches, and the held-out loss is measured by the same lines of code. A killed training
goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream, held_out_batches
from mini_bert.data.tokens import TokenCorpus
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.model.bert import MiniBERT

STATE_NAME = "state.pt"
CURVE_NAME = "curve.jsonl"
_SAVE_EVERY = 250


def train(
    folder: Path,
    config: Config,
    tokens: TokenCorpus,
    *,
    threads: int,
    told: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Path:
    """Train `config.train.steps` steps; returns the file of `{"step", "seconds", "loss", …}`, one record a line.

    `seconds` are those spent on steps alone: batches are made and the model is scored off the clock.
    """
    import torch
    from transformers import get_scheduler

    torch.set_num_threads(threads)
    torch.manual_seed(config.run.seed)
    assert config.train.steps is not None
    steps, model = config.train.steps, _model(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr, weight_decay=config.optimizer.weight_decay)
    warm_up = round(config.train.warmup_ratio * steps)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=warm_up, num_training_steps=steps)
    stream = BatchStream(tokens.train, config, tokens.tokenizer)
    held_out = held_out_batches(tokens.held_out, config, tokens.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    curve, state = folder / CURVE_NAME, folder / STATE_NAME
    done, seconds = 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["random"])
        done, seconds = saved["step"], saved["seconds"]
    _keep_until(curve, done)
    model.train()
    for step in range(done + 1, steps + 1):
        inputs = _inputs(stream.batch(step - 1))
        begin = time.perf_counter()
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - begin
        if step % config.train.evaluate_every == 0 or step == steps:
            result = evaluate_masked_lm(_as_ours(model, config), held_out)
            record = {
                "step": step,
                "seconds": seconds,
                "loss": result.loss,
                "interval": list(result.loss_interval),
                "train_loss": loss.item(),
            }
            with curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            told(record)
        if step % _SAVE_EVERY == 0 or step == steps:
            contents = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "random": torch.get_rng_state(),
                "step": step,
                "seconds": seconds,
            }
            torch.save(contents, f"{state}.new")
            os.replace(f"{state}.new", state)
    return curve


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


def _inputs(batch: Batch) -> dict[str, Any]:
    import torch

    labels = np.full(batch.input_ids.size, -100)
    labels[batch.masked_positions] = batch.target_ids
    mask = np.ones(batch.input_ids.shape, np.int64) if batch.attention_mask is None else batch.attention_mask
    return {
        "input_ids": torch.from_numpy(batch.input_ids.astype(np.int64)),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "labels": torch.from_numpy(labels.reshape(batch.input_ids.shape)),
    }


def _as_ours(model: Any, config: Config) -> MiniBERT:
    """Its weights in our model, which scores faster and by the same code as ours."""
    ours = MiniBERT(config.model)
    tensors = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    for row in ours.parameters.table:
        tensor = tensors[row.hugging_face]
        ours.parameters[row.name][...] = tensor.T if row.transposed else tensor
    return ours


def _keep_until(curve: Path, step: int) -> None:
    """Drop records of steps that a kill has undone."""
    if curve.exists():
        lines = [line for line in curve.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        curve.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
