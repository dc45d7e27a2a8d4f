"""Which trials wait, which are being trained, by whom, and which did their owners leave when they were killed?

Optuna's journal is the queue: a file that only grows, which any number of processes read and append to. A trial whose
owner was killed stays RUNNING there for ever; whoever opens the queue marks such trials and lets them wait anew.
Nothing that was learned is lost, for the trial's run goes on from its newest checkpoint. What trials found does not
stand here, but in files of their own (worker.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.studies.journal import journal, require_optuna
from mini_bert.training.ownership import Owner, this_process

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

MOST_ATTEMPTS = 3
"""Times that a trial is begun; whoever kills its process so often is in the trial itself."""
SECONDS_TO_TAKE = 10.0
"""A trial without an owner was left by a process that was killed while it took it, if it has been so for so long."""
_OWNER, _JOB, _ATTEMPT, _LEFT, _DRAW = "owner", "job", "attempt", "left", "draw"


class Queue:
    """The trials of one study on this disk.

    Raises:
        MissingExtraError: optuna is not installed.
    """

    def __init__(self, path: Path, name: str) -> None:
        optuna = require_optuna()
        self._study = optuna.create_study(
            storage=journal(path),
            study_name=name,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0),
        )
        self._sampler = partial(optuna.samplers.TPESampler, n_startup_trials=6)
        self._waiting = optuna.trial.TrialState.WAITING
        self._running = optuna.trial.TrialState.RUNNING
        self._complete = optuna.trial.TrialState.COMPLETE
        self._pruned = optuna.trial.TrialState.PRUNED
        self._over = (self._complete, self._pruned)
        self._fail = optuna.trial.TrialState.FAIL

    def add(self, job: Mapping[str, Any], attempt: int = 1, params: Mapping[str, Any] | None = None) -> None:
        """Let a trial wait. `job` is plain JSON, with its `key`."""
        self._study.enqueue_trial(dict(params or {}), user_attrs={_JOB: dict(job), _ATTEMPT: attempt})

    def take(self, most: int = 0) -> Trial | None:
        """The first trial that waits, ours from now on; where none does, a new one, of `most` in all; else None."""
        new = not self.waiting()
        if new and self.begun() >= most:
            return None
        trial = self._study.ask()
        if new:
            draw = self._drawn_before(trial.number)
            trial.set_user_attr(_JOB, {"key": f"search-{draw}", _DRAW: draw})
        elif _JOB not in trial.user_attrs:  # another process was quicker, and this one is new and empty
            self._study.tell(trial, state=self._fail)
            return None
        trial.set_user_attr(_OWNER, this_process()._asdict())
        # with one seed, processes would all draw the same; with the trial's number, a kill would change what follows
        self._study.sampler = self._sampler(seed=trial.user_attrs[_JOB].get(_DRAW, 0))
        return trial

    def finish(self, trial: Trial, value: float | None, *, pruned: bool = False) -> None:
        """A trial is over; without a value, it has none."""
        state = self._pruned if pruned else self._complete if value is not None else self._fail
        self._study.tell(trial, value if state == self._complete else None, state=state)

    def leave(self, trial: Trial) -> None:
        """A trial that was interrupted: whoever takes back what is stale lets it wait anew."""
        trial.set_user_attr(_LEFT, True)

    def waiting(self) -> list[Mapping[str, Any]]:
        """The jobs that wait."""
        return [trial.user_attrs[_JOB] for trial in self._trials(self._waiting) if _JOB in trial.user_attrs]

    def keys(self) -> set[str]:
        """Of the jobs that wait, or that somebody trains or is just about to take."""
        trials = self._study.get_trials(deepcopy=False, states=(self._waiting, self._running))
        return {trial.user_attrs[_JOB]["key"] for trial in trials if _JOB in trial.user_attrs}

    def running(self) -> dict[int, Mapping[str, Any]]:
        """The jobs that are being trained, by the process's number."""
        return {
            trial.user_attrs[_OWNER]["pid"]: trial.user_attrs[_JOB]
            for trial in self._trials(self._running)
            if _OWNER in trial.user_attrs and _LEFT not in trial.user_attrs
        }

    def take_back_stale(self, *, forgive: bool = False) -> list[Mapping[str, Any]]:
        """Mark the trials whose owners left or are gone as failed, and let them wait anew.

        Returns those whose processes died too often for that; with `forgive`, as when a study is started, none did. A
        trial that was interrupted is none the worse for it.
        """
        given_up = []
        for trial in self._trials(self._running):
            owner, left = trial.user_attrs.get(_OWNER), _LEFT in trial.user_attrs
            if owner is None and _seconds_since(trial.datetime_start) < SECONDS_TO_TAKE:
                continue
            if owner is not None and not left and not Owner(**owner).is_gone():
                continue
            self._study.tell(trial.number, state=self._fail)
            job, attempt = trial.user_attrs.get(_JOB), trial.user_attrs.get(_ATTEMPT, 1)
            if job is None:
                continue
            if forgive or left:
                self.add(job, 1 if forgive else attempt, trial.params)
            elif attempt < MOST_ATTEMPTS:
                self.add(job, attempt + 1, trial.params)
            else:
                given_up.append(job)
        return given_up

    def over(self) -> int:
        """How many trials have ended with a result, or were given up."""
        return len(self._study.get_trials(deepcopy=False, states=self._over))

    def begun(self) -> int:
        """How many trials are over with a result, under way, or waiting."""
        return len(self._study.get_trials(deepcopy=False, states=(*self._over, self._running, self._waiting)))

    def _drawn_before(self, number: int) -> int:
        """How many trials a search had drawn when it began the one of this number; what waits anew is not drawn."""
        trials = self._study.get_trials(deepcopy=False)
        return sum(trial.number < number and _ATTEMPT not in trial.user_attrs for trial in trials)

    def _trials(self, state: Any) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False, states=(state,))
        return found


def _seconds_since(moment: datetime | None) -> float:
    return float("inf") if moment is None else abs((datetime.now(moment.tzinfo) - moment).total_seconds())
