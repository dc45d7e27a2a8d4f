"""A training under way: how it begins, from nothing or from a checkpoint, and how it goes back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mini_bert.batch import Batch
from mini_bert.config.schema import Config
from mini_bert.errors import CheckpointError, NonFiniteError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.optim.optimizer import zeros
from mini_bert.training.adaptive_masking import AdaptiveRate
from mini_bert.training.checkpoint import environment, load_checkpoint, save_checkpoint
from mini_bert.training.checkpoint_folders import FOLDER, checkpoints, retire_newer, saved_in_turn, step_of, verified
from mini_bert.training.health import Health
from mini_bert.training.incident import not_finite_in
from mini_bert.training.layout import layout_of
from mini_bert.training.material import Material, Stream
from mini_bert.training.parallel import ShardPool
from mini_bert.training.phases import References
from mini_bert.training.progress import Progress
from mini_bert.training.ranks import Ranks
from mini_bert.training.resuming import (
    Beginning,
    check_same_data,
    check_same_reference,
    check_same_training,
    check_same_word_list,
    data_sha256,
)
from mini_bert.training.step import TrainingState

_GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole parts, lie evenly between 0 and 1, however many there are."""


@dataclass
class Good:
    """Step and counters before the first of some skipped updates: parameters and moments are as they were then."""

    step: int
    progress: Progress
    health: Health

    @classmethod
    def restored(cls, saved: Mapping[str, Any] | None) -> Good | None:
        """As `asdict` gave it, or None."""
        if saved is None:
            return None
        return cls(saved["step"], Progress.restored(saved["progress"]), Health.restored(saved["health"]))


@dataclass
class Course:
    """A training under way, the same on every rank."""

    run: Path
    config: Config
    state: TrainingState
    stream: Stream
    references: References | None
    facts: dict[str, Any]
    """What the manifests say of data, tokenizer and machine."""
    train_tokens: int
    ranks: Ranks
    first: Callable[[], MiniBERT]
    """The model before step 1."""
    progress: Progress = field(default_factory=Progress)
    health: Health = field(default_factory=Health)
    branched: bool = False
    """Whether it has just left another run's course."""
    good: Good | None = None
    """What was before the updates that are being skipped; None where the last one was not."""

    def next_batch(self) -> Batch:
        """The batch of the step that comes, masked at the rate of now."""
        step = self.state.step
        return self.stream.batch(step + self.health.batch_offset, self.masking_rate(step))

    def batch_to_time(self, step: int) -> Batch:
        """A batch for a forecast from here on: where batches change on the way, from anywhere on it."""
        steps, first = self.stream.steps, self.state.step
        if self.stream.changes and steps is not None and steps > first:
            step = first + int((step - first) * _GOLDEN % 1 * (steps - first))
        return self.stream.batch(step)

    def masking_rate(self, step: int) -> float:
        """The share of the tokens that is hidden in the batch behind `step`; an adaptive rate as it is now."""
        follows = self.progress.masking
        return self.stream.rate(step + self.health.batch_offset) if follows is None else follows.rate

    def save(self, in_turn: bool = False) -> Path:
        """Write a checkpoint; on every rank, of which the first writes.

        Args:
            in_turn: not because a signal, an end or a best loss asked for it: a rollback may lead to it.

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
            "good": self.good and asdict(self.good),
            "in_turn": in_turn,
            "config": self.config.to_dict(),
            "epoch": self.stream.epoch(self.state.step + self.health.batch_offset),
            "samples": (self.state.step + self.health.batch_offset) * train.batch_size,
        }
        return self.ranks.on_first(
            lambda: save_checkpoint(
                self.run,
                self.state,
                saved,
                self.facts,
                keep=max(train.keep_checkpoints, 0 if in_turn else self._back_to_its_turn()),
                best=self.progress.best_step,
            ),
        )

    def _back_to_its_turn(self) -> int:
        """How many checkpoints reach back to the last that was saved in its turn, the one of now included.

        0 where no rollback will ask for it.
        """
        if self.config.health.spike != "roll-back":
            return 0
        others = [path for path in checkpoints(self.run) if step_of(path) != self.state.step]
        return next((number for number, path in enumerate(others, 2) if saved_in_turn(path)), 0)

    def go_back(self) -> int:
        """Return to the newest checkpoint that was saved in its turn, or to step 0; returns the step left.

        Checkpoints that a signal or a best loss asked for do not count, for where a run goes back to must not depend on
        whether it was ever interrupted; they do where no other holds. Those of the course that is left are removed: a
        resume would take them for this one.

        Raises:
            StorageError: one could not be removed.
            CheckpointError: there is none, and `run.start` names other weights by now.
        """
        left = self.state.step
        found = self.ranks.on_first(lambda: _to_go_back_to(self.run))
        self.ranks.on_first(lambda: retire_newer(self.run, -1 if found is None else step_of(found)))
        if found is None:
            self._take(TrainingState.fresh(self._same_first(), self.config.optimizer))
            self.progress, self.good = Progress(masking=AdaptiveRate.first(self.config.masking)), None
            self.health.rolled_back(left, 0)
        else:
            state, saved, _ = load_on_all(found, self.ranks)
            self._take(state)
            self.progress, self.good = Progress.restored(saved["progress"]), Good.restored(saved.get("good"))
            self.health.rolled_back(left, state.step, saved["health"])
        best = self.progress.best_step
        if best is not None and not self.ranks.on_first(lambda: (self.run / FOLDER / f"checkpoint-{best}").is_dir()):
            self.progress.best_loss = self.progress.best_step = None
        return left

    def _same_first(self) -> MiniBERT:
        """The model before step 1, as it was then.

        Raises:
            CheckpointError: `run.start` names other weights by now.
        """
        model, before = self.first(), self.facts.get("start_sha256")
        if before is not None and before != _sha256(model):
            raise CheckpointError(
                "run.start",
                got=f"{self.config.run.start}, other weights than those that the run began with",
                expected=f"those with the sha256 {before[:12]}…",
                advice="A run that has trained on has other weights: begin anew, and name the checkpoint's folder.",
            )
        return model

    def _take(self, state: TrainingState) -> None:
        """Another state's numbers, in the arrays that are there."""
        for mine, other in zip(self.state.vectors, state.vectors, strict=True):
            mine[...] = other
        self.state.step = state.step


def from_nothing(config: Config, run: Path, material: Material, pool: ShardPool, ranks: Ranks) -> Course:
    """A course before step 1."""
    model = material.first_model(config)
    course = _course(config, run, TrainingState.fresh(model, config.optimizer), material, pool, ranks)
    if config.run.start is not None:
        course.facts["start_sha256"] = _sha256(model)
    return course


def from_checkpoint(
    config: Config,
    run: Path,
    beginning: Beginning,
    material: Material,
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
    minutes = config.train.minutes
    config = check_same_training(config, saved["config"], beginning.checkpoint)
    check_same_data(promised, material, beginning.checkpoint)
    state.model.tokenizer = material.tokenizer
    course = _course(config, run, state, material, pool, ranks)
    check_same_reference(promised, course.facts, beginning.checkpoint)
    check_same_word_list(promised, course.facts, beginning.checkpoint)
    changes = []
    for name, before in promised["environment"].items():
        now = course.facts["environment"].get(name)
        if now != before and name not in ("threads", "ranks"):
            changes.append(
                f"{name} was {before} when this run was saved, and is {now}: the bits may differ from here on."
            )
    if "start_sha256" in promised:
        course.facts["start_sha256"] = promised["start_sha256"]
    course.facts["parent"] = str(beginning.origin or "") or promised["parent"]
    course.branched = beginning.origin is not None
    course.progress = Progress.restored(saved["progress"])
    if "health" in saved:  # absent in checkpoints of format 1
        course.health = Health.restored(saved["health"])
    course.good = Good.restored(saved.get("good"))
    if minutes is not None:
        changes.append(f"train.minutes is ignored: {run} has had {config.train.steps:,} steps since it began.")
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
        kept = restored.state.optimizer.name, restored.state.optimizer.around
        return model.config, model.dtype, kept, restored.state.step, restored.progress, restored.manifest

    config, dtype, kept, step, saved, promised = ranks.on_first(load)
    if not read:
        parameters = Parameters(config, dtype)
        optimizer = zeros(layout_of(parameters.table), dtype, *kept)
        read.append(TrainingState(MiniBERT.from_parameters(parameters), optimizer, step))
    for vector in read[0].vectors:
        ranks.broadcast_array(vector)
    return read[0], saved, promised


def _to_go_back_to(run: Path) -> Path | None:
    """The newest checkpoint that holds and was saved in its turn; if there is none, the newest that holds."""
    hold = []
    for checkpoint in checkpoints(run):
        with suppress(CheckpointError):
            verified(checkpoint)
            hold.append(checkpoint)
            if saved_in_turn(checkpoint):
                return checkpoint
    return hold[0] if hold else None


def _course(
    config: Config, run: Path, state: TrainingState, material: Material, pool: ShardPool, ranks: Ranks
) -> Course:
    config = config.model_copy(update={"run": config.run.model_copy(update={"name": run.name, "resume": None})})
    facts = {
        "run": run.name,
        "parent": None,
        "data_sha256": data_sha256(material.provenance),
        "tokenizer_sha256": material.tokenizer.fingerprint,
        "environment": {**environment(pool.threads), "ranks": ranks.size},
    }
    ranks.same("the data", facts["data_sha256"])
    ranks.same("the tokenizer", material.tokenizer.fingerprint)
    prepared = material.prepare(config, pool.threads)
    facts |= prepared.facts
    progress = Progress(masking=AdaptiveRate.first(config.masking))
    first = partial(material.first_model, config)
    return Course(
        run, config, state, prepared.stream, prepared.references, facts, prepared.tokens, ranks, first, progress
    )


def _sha256(model: MiniBERT) -> str:
    return hashlib.sha256(model.parameters.buffer.tobytes()).hexdigest()
