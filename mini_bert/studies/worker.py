"""The process of one trial: takes the first that waits, trains it, writes down what it found, and ends.

    python -m mini_bert.studies.worker FOLDER QUEUE THREADS

A process of its own for each trial: its peak memory is the trial's, and whatever ends it ends nothing else.
Exit codes: 0 a trial was finished, 3 none waits, 130 interrupted (all is saved).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mini_bert.atomic_files import make_folder, replace_file
from mini_bert.errors import RunInUseError
from mini_bert.studies.journal import require_optuna
from mini_bert.studies.pieces import label_of
from mini_bert.studies.plan import Planned, plan_trial
from mini_bert.studies.queue import Queue
from mini_bert.studies.result import Trial
from mini_bert.studies.schema import Study
from mini_bert.studies.trial import Pruned, train_trial

if TYPE_CHECKING:
    from optuna.trial import Trial as Taken

QUEUE, TRIALS, RUNS, SEARCH = "queue.log", "trials", "runs", "search.json"
"""In the study's folder: the queue, what the trials found, their runs, and what a search needs."""
DONE, NOTHING, INTERRUPTED = 0, 3, 130


def main(arguments: list[str]) -> int:
    """Train one trial."""
    folder, name, threads = Path(arguments[0]), arguments[1], int(arguments[2])
    search = json.loads((folder / SEARCH).read_bytes()) if name.endswith("/search") else None
    queue = Queue(folder / QUEUE, name)
    taken = queue.take(most=search["trials"] if search else 0)
    if taken is None:
        return NOTHING
    try:
        trials = _search(folder, search, taken, threads) if search else _piece(folder, taken, threads)
    except KeyboardInterrupt:
        trials = None
    except RunInUseError:
        queue.finish(taken, None)
        return DONE
    if trials is None:
        queue.leave(taken)
        return INTERRUPTED
    losses = [trial.loss for trial in trials]
    value = None if None in losses else sum(loss for loss in losses if loss is not None) / len(losses)
    queue.finish(taken, value, pruned=search is not None and value is None)
    return DONE


def _piece(folder: Path, taken: Taken, threads: int) -> list[Trial] | None:
    trial = train_trial(taken.user_attrs["job"], directory=folder / RUNS, threads=threads)
    return None if trial is None else [written(folder, trial)]


def _search(folder: Path, search: Mapping[str, Any], taken: Taken, threads: int) -> list[Trial] | None:
    """Train what the search suggests, with each of the study's seeds; it may be given up within the first."""
    study = Study(**search["study"])
    settings = {name: _suggested(taken, name, allowed) for name, allowed in study.search.items()}
    piece, trials = label_of(settings), []

    def report(number: int, loss: float) -> None:
        taken.report(loss, number)
        if taken.should_prune():
            raise Pruned

    for seed in study.seeds:
        start = search["start"] and tuple(search["start"])
        planned = plan_trial(study, piece, settings, seed, search["steps"], start)
        job = job_of(planned, search["baseline"], study)
        try:
            first = seed == study.seeds[0]
            trial = train_trial(
                job, directory=folder / RUNS, threads=threads, **({"report_loss": report} if first else {})
            )
        except Pruned:
            trial = ended(job, "pruned", "Worse than the median of the others at the same evaluation.")
        if trial is None:
            return None
        trials.append(written(folder, trial))
        if trial.status != "done":
            break
    return trials


def job_of(planned: Planned, baseline: Mapping[str, Any], study: Study) -> dict[str, Any]:
    """A planned trial as plain JSON, for the queue."""
    return {
        "key": planned.key,
        "piece": planned.piece,
        "seed": planned.seed,
        "settings": dict(planned.settings),
        "begins": planned.begins,
        "steps": planned.steps,
        "run_name": planned.run_name,
        "config": planned.config.to_dict(),
        "baseline": dict(baseline),
        "measure": study.measure.model_dump(mode="json"),
    }


def ended(job: Mapping[str, Any], status: str, message: str) -> Trial:
    """The record of a trial that has nothing to tell."""
    names = ("key", "piece", "seed", "settings", "begins", "steps")
    return Trial(**{name: job[name] for name in names}, status=status, message=message, step=0)


def _suggested(taken: Taken, name: str, allowed: Any) -> Any:
    if allowed.choices:
        return taken.suggest_categorical(name, allowed.choices)
    if allowed.integer:
        return taken.suggest_int(name, int(allowed.low), int(allowed.high), log=allowed.log)
    return taken.suggest_float(name, allowed.low, allowed.high, log=allowed.log)


def written(folder: Path, trial: Trial) -> Trial:
    """The trial, which now stands in the study's folder.

    Raises:
        StorageError: the file cannot be written.
    """
    make_folder(folder / TRIALS)
    replace_file(folder / TRIALS / f"{trial.key}.json", (trial.model_dump_json(indent=1) + "\n").encode())
    return trial


def has_ended_well(folder: Path, key: str) -> bool:
    """Whether the trial of this key stands in the study's folder, and no error ended it."""
    try:
        return Trial.model_validate_json((folder / TRIALS / f"{key}.json").read_bytes()).status != "failed"
    except (OSError, ValidationError):
        return False


if __name__ == "__main__":
    require_optuna()
    sys.exit(main(sys.argv[1:]))
