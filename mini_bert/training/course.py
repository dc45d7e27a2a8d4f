"""A training under way: how it begins, from nothing or from a checkpoint, and how it goes back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream
from mini_bert.data.tokens import TokenCorpus
from mini_bert.errors import CheckpointError, NonFiniteError
from mini_bert.interop import manifest
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.training.checkpoint import checkpoints, environment, load_checkpoint, save_checkpoint, step_of
from mini_bert.training.health import Health, not_finite_in
from mini_bert.training.parallel import ShardPool
from mini_bert.training.phases import References, references_of
from mini_bert.training.progress import Progress
from mini_bert.training.ranks import Ranks
from mini_bert.training.resuming import (
    Beginning,
    check_same_data,
    check_same_training,
    data_sha256,
)
from mini_bert.training.step import TrainingState


@dataclass
class Course:
    """A training under way, the same on every rank."""

    run: Path
    config: Config
    state: TrainingState
    stream: BatchStream
    references: References
    facts: dict[str, Any]
    """What the manifests say of data, tokenizer and machine."""
    train_tokens: int
    ranks: Ranks
    progress: Progress = field(default_factory=Progress)
    health: Health = field(default_factory=Health)

    def save(self) -> Path:
        """Write a checkpoint; on every rank, of which the first writes.

        Raises:
            StorageError: it could not be written; older ones are as they were.
            NonFiniteError: a parameter or a moment is not finite; nothing is written.
        """
        train = self.config.train
        if (bad := not_finite_in(self.state)) is not None:
            raise NonFiniteError(
                bad,
                got="NaN or infinity",
                expected="finite numbers, which alone are worth a checkpoint",
                advice="Go on from the last checkpoint with `--resume auto`.",
            )
        saved = {
            "progress": asdict(self.progress),
            "health": asdict(self.health),
            "config": self.config.to_dict(),
            "epoch": self.stream.epoch(self.state.step),
            "samples": self.state.step * train.batch_size,
        }
        return self.ranks.on_first(
            lambda: save_checkpoint(
                self.run,
                self.state,
                saved,
                self.facts,
                keep=max(train.keep_checkpoints, self._back_to_its_turn()),
                best=self.progress.best_step,
            ),
        )

    def _back_to_its_turn(self) -> int:
        """How many checkpoints reach back to the last that was saved in its turn, the one of now included.

        0 where no rollback will ask for it.
        """
        if self.config.health.spike != "roll-back":
            return 0
        step = self.state.step
        in_turn = step - step % self.config.train.save_every
        return 1 + sum(step_of(path) >= in_turn and step_of(path) != step for path in checkpoints(self.run))

    def go_back(self) -> int:
        """Return to the newest checkpoint that was saved in its turn, or to step 0; returns the step left.

        Checkpoints that a signal or a best loss asked for do not count: where a run goes back to must not depend on
        whether it was ever interrupted.
        """
        left, every = self.state.step, self.config.train.save_every
        found = self.ranks.on_first(lambda: _in_its_turn(self.run, every))
        if found is None:
            model = MiniBERT(self.config.model, seed=self.config.run.seed)
            self._take(TrainingState.fresh(model))
            self.progress = Progress()
            self.health.rolled_back(left, 0)
        else:
            state, saved, _ = load_on_all(found, self.ranks)
            self._take(state)
            self.progress = Progress.restored(saved["progress"])
            self.health.rolled_back(left, state.step, saved["health"])
        return left

    def _take(self, state: TrainingState) -> None:
        """Another state's numbers, in the arrays that are there."""
        for mine, other in zip(vectors(self.state), vectors(state), strict=True):
            mine[...] = other
        self.state.step = state.step


def from_nothing(config: Config, run: Path, tokens: TokenCorpus, pool: ShardPool, ranks: Ranks) -> Course:
    """A course before step 1."""
    model = MiniBERT(config.model, seed=config.run.seed, tokenizer=tokens.tokenizer)
    return _course(config, run, TrainingState.fresh(model), tokens, pool, ranks)


def from_checkpoint(
    config: Config,
    run: Path,
    beginning: Beginning,
    tokens: TokenCorpus,
    pool: ShardPool,
    ranks: Ranks,
) -> tuple[Course, list[str]]:
    """The course that a checkpoint was taken from, as it was then, and what has changed since, in sentences.

    Raises:
        CheckpointError: the checkpoint does not hold.
        ConfigError: a setting that changes what is learned is another one.
        DataError: texts or vocabulary are others.
    """
    assert beginning.checkpoint is not None
    state, saved, promised = load_on_all(beginning.checkpoint, ranks)
    config = check_same_training(config, saved["config"], beginning.checkpoint)
    check_same_data(promised, tokens, beginning.checkpoint)
    state.model.tokenizer = tokens.tokenizer
    course = _course(config, run, state, tokens, pool, ranks)
    changes = []
    for name, before in promised["environment"].items():
        now = course.facts["environment"].get(name)
        if now != before and name not in ("threads", "ranks"):
            changes.append(
                f"{name} was {before} when this run was saved, and is {now}: the bits may differ from here on."
            )
    course.facts["parent"] = str(beginning.origin or "") or promised["parent"]
    course.progress = Progress.restored(saved["progress"])
    if "health" in saved:  # absent in checkpoints of format 1
        course.health = Health.restored(saved["health"])
    return course, changes


def load_on_all(checkpoint: Path, ranks: Ranks) -> tuple[TrainingState, Mapping[str, Any], Mapping[str, Any]]:
    """State, counters and manifest of a checkpoint that the first rank reads, on every rank.

    Raises:
        CheckpointError: it does not hold.
    """
    if ranks.size == 1:
        restored = load_checkpoint(checkpoint)
        return restored.state, restored.progress, restored.manifest
    read: list[TrainingState] = []

    def load() -> tuple[Any, ...]:
        restored = load_checkpoint(checkpoint)
        read.append(restored.state)
        model = restored.state.model
        return model.config, model.dtype, restored.state.step, restored.progress, restored.manifest

    config, dtype, step, saved, promised = ranks.on_first(load)
    if not read:
        read.append(TrainingState.fresh(MiniBERT.from_parameters(Parameters(config, dtype))))
        read[0].step = step
    for vector in vectors(read[0]):
        ranks.broadcast_array(vector)
    return read[0], saved, promised


def vectors(state: TrainingState) -> tuple[np.ndarray[Any, Any], ...]:
    """The long vectors of a state: parameters and both moments."""
    return state.model.parameters.buffer, state.optimizer.m, state.optimizer.v


def _in_its_turn(run: Path, every: int) -> Path | None:
    for checkpoint in checkpoints(run):
        if step_of(checkpoint) % every == 0:
            with suppress(CheckpointError):
                manifest.verify(checkpoint)
                return checkpoint
    return None


def _course(
    config: Config, run: Path, state: TrainingState, tokens: TokenCorpus, pool: ShardPool, ranks: Ranks
) -> Course:
    config = config.model_copy(update={"run": config.run.model_copy(update={"name": run.name, "resume": None})})
    facts = {
        "run": run.name,
        "parent": None,
        "data_sha256": data_sha256(tokens.provenance),
        "tokenizer_sha256": tokens.tokenizer.fingerprint,
        "environment": {**environment(pool.threads), "ranks": ranks.size},
    }
    ranks.same("the data", facts["data_sha256"])
    ranks.same("the tokenizer", tokens.tokenizer.fingerprint)
    stream = BatchStream(tokens.train, config, tokens.tokenizer)
    known = references_of(
        tokens.train.documents(),
        config.model.vocab_size,
        tokens.tokenizer.special_ids,
        config.masking.mask_share,
        config.masking.random_share,
    )
    return Course(run, config, state, stream, known, facts, tokens.train.n_tokens, ranks)
