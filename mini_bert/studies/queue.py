"""Which trials wait, which are being trained, by whom, and which did their owners leave when they were killed?

Optuna's journal is the queue: a file that only grows, which any number of processes read and append to. A trial whose
owner was killed stays RUNNING there for ever; whoever opens the queue marks such trials and lets them wait anew.
Nothing that was learned is lost, for the trial's run goes on from its newest checkpoint. What trials found does not
stand here, but in files of their own (worker.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_bert.errors import MissingExtraError
from mini_bert.training.ownership import Owner, this_process

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

MOST_ATTEMPTS = 3
"""Times that a trial is begun; whoever kills its process so often is in the trial itself."""
_OWNER, _JOB, _ATTEMPT, _LEFT = "owner", "job", "attempt", "left"


class Queue:
    """The trials of one study on this disk.

    Raises:
        MissingExtraError: optuna is not installed.
    """

    def __init__(self, path: Path, name: str) -> None:
        optuna = require_optuna()
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
        self._study = optuna.create_study(
            storage=storage,
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
        self._study.sampler = self._sampler(seed=trial.number)  # with one seed, processes would all draw the same
        if new:
            trial.set_user_attr(_JOB, {"key": f"search-{trial.number}"})
        elif _JOB not in trial.user_attrs:  # another process was quicker, and this one is new and empty
            self._study.tell(trial, state=self._fail)
            return None
        trial.set_user_attr(_OWNER, this_process()._asdict())
        return trial

    def finish(self, trial: Trial, value: float | None, *, pruned: bool = False) -> None:
        """A trial is over; without a value, it has none."""
        state = self._pruned if pruned else self._complete if value is not None else self._fail
        self._study.tell(trial, value if state == self._complete else None, state=state)

    def leave(self, trial: Trial) -> None:
        """A trial that was interrupted: whoever opens the queue next may take it up."""
        trial.set_user_attr(_LEFT, True)
        self._study.tell(trial, state=self._fail)

    def waiting(self) -> list[Mapping[str, Any]]:
        """The jobs that wait."""
        return [trial.user_attrs[_JOB] for trial in self._trials(self._waiting) if _JOB in trial.user_attrs]

    def running(self) -> dict[int, Mapping[str, Any]]:
        """The jobs that are being trained, by the process's number."""
        return {
            trial.user_attrs[_OWNER]["pid"]: trial.user_attrs[_JOB]
            for trial in self._trials(self._running)
            if _OWNER in trial.user_attrs
        }

    def take_back_stale(self) -> list[Mapping[str, Any]]:
        """Mark the trials whose owners are gone, and let them wait anew; returns those that died too often for that."""
        given_up = []
        for trial in self._trials(self._running):
            owner = trial.user_attrs.get(_OWNER)
            if owner is not None and not Owner(**owner).is_gone():
                continue
            self._study.tell(trial.number, state=self._fail)
            job, attempt = trial.user_attrs.get(_JOB), trial.user_attrs.get(_ATTEMPT, 1)
            if job is None:
                continue
            if attempt >= MOST_ATTEMPTS:
                given_up.append(job)
            else:
                self.add(job, attempt + 1, trial.params)
        return given_up

    def over(self) -> int:
        """How many trials have ended with a result, or were given up."""
        return len(self._study.get_trials(deepcopy=False, states=self._over))

    def begun(self) -> int:
        """How many trials are over with a result, under way, or waiting."""
        return len(self._study.get_trials(deepcopy=False, states=(*self._over, self._running, self._waiting)))

    def _trials(self, state: Any) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False, states=(state,))
        return found


def require_optuna() -> Any:
    """The module, silent.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "optuna", got="not installed", expected="the extra `study`", advice='pip install "mini-bert[study]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
