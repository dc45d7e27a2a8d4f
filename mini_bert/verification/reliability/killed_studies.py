"""What of a study survives a kill? Every trial, once, to the same bits; and a search draws what it would have. (R23)"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mini_bert.random_streams import RandomStream
from mini_bert.studies.journal import journal, require_optuna
from mini_bert.studies.result import StudyResult, Trial
from mini_bert.studies.worker import QUEUE
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import write_corpus

_NAME = "small"
_LONGEST = 3.0
"""Seconds from the first trial's process to the kill, at most."""
_WHOM = ("study", "trainer", "all")
"""The process of the study, that of a trial, or all at once: in turn."""
_PIECES = {
    "plain": {"why": "As it is."},
    "faster": {"settings": {"train.lr": 0.01}, "why": "A higher rate."},
    "relu": {"settings": {"model.hidden_act": "relu"}, "why": "Simpler."},
}


class _Subject:
    """A study in a folder of its own, started as often as one likes; text and tokens are shared by all in `folder`."""

    def __init__(self, folder: Path, name: str, *, workers: int, **description: Any) -> None:
        self.place = folder / name
        self.place.mkdir(parents=True)
        if not (folder / "corpus").exists():
            write_corpus(folder / "corpus")
        described = {
            "name": _NAME,
            "question": "Does it help?",
            "extends": ["training/debugging"],
            "settings": {"model.vocab_size": 96, "train.save_every": 10},
            "corpus": [str(folder / "corpus" / "*.txt")],
            "baseline": "plain",
            **description,
        }
        (self.place / "study.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
        self._workers = workers
        package = str(Path(__file__).resolve().parents[3])
        self._environment = {
            **os.environ,
            "MINI_BERT_CACHE": str(folder / "cache"),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")])),
        }

    @property
    def trials(self) -> list[Trial]:
        """What the result file says; nothing where there is none yet."""
        path = self.place / "studies" / f"{_NAME}.json"
        return StudyResult.read(path).trials if path.exists() else []

    def start(self) -> subprocess.Popen[str]:
        """Start it, and do not wait."""
        words = ["study", "run", "study.yaml", "--workers", str(self._workers), "--threads", "1"]
        return subprocess.Popen(
            [sys.executable, "-m", "mini_bert", *words],
            cwd=self.place,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> str:
        """Start it and wait for its end; returns what it said if it failed."""
        process = self.start()
        errors = process.communicate(timeout=600)[1]
        return f"code {process.returncode}, {errors[-300:]!r}" if process.returncode else ""

    def kill(self, after: float, whom: str) -> bool:
        """Start it and kill some of it, `after` seconds from its first trial on; False: it had come to its end."""
        process = self.start()
        while process.poll() is None and not _children(process.pid):
            time.sleep(0.005)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            trainers = _children(process.pid)
            for pid in trainers if whom != "study" else []:
                os.kill(pid, signal.SIGKILL)
                if whom == "trainer":
                    break
            if whom != "trainer":
                process.kill()
            process.communicate(timeout=600)
            return True
        process.communicate()
        return False

    def journal(self) -> list[tuple[str, str]]:
        """Key and state of each trial of Optuna's journal."""
        optuna = require_optuna()
        storage = journal(self.place / "runs" / "studies" / _NAME / QUEUE)
        return [
            (str(trial.user_attrs.get("job", {}).get("key")), trial.state.name)
            for name in optuna.study.get_all_study_names(storage)
            for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        ]


def killed_studies(scale: Scale, folder: Path) -> Outcome:
    """Kill a study, a trial's process, or all of them, again and again; at each end, compare with one left alone."""
    outcome = Outcome()
    if not _can_see_children():
        return outcome
    description = {"pieces": _PIECES, "seeds": [0, 1], "budget": {"steps": 120}}
    whole = _Subject(folder, "whole", workers=2, **description)
    outcome.count(not (said := whole.finish()), f"left alone: {said}")
    kills = scale.of(full=10, quick=2)
    moments = _LONGEST * RandomStream(0, "studies/kills").uniform(kills, 1)[:, 0]
    chains = done = 0
    while done < kills:
        study = _Subject(folder, f"chain-{chains}", workers=2, **description)
        seen: list[Trial] = []
        while done < kills and study.kill(float(moments[done]), _WHOM[done % 3]):
            seen = study.trials
            done += 1
            scale.told(done, kills)
        said = study.finish()
        chains += 1
        outcome.count(not said, f"chain {chains}: {said}")
        compare(outcome, f"chain {chains}", whole.trials, seen, study.trials, study.journal())
    outcome.measured = {"kills": done, "studies": chains}
    return outcome


def compare(
    outcome: Outcome,
    where: str,
    whole: Iterable[Trial],
    seen: Iterable[Trial],
    trials: Iterable[Trial],
    journal: Iterable[tuple[str, str]],
) -> None:
    """Count what holds of a study that was killed.

    Args:
        outcome: the counts.
        where: begins each sentence on what does not hold.
        whole: the trials of the study that was left alone.
        seen: those that had been written when the last kill came.
        trials: those at the end.
        journal: key and state of each of the queue's trials.
    """
    trials = list(trials)
    names = Counter((trial.piece, trial.seed) for trial in trials)
    expected = {(trial.piece, trial.seed): _what_counts(trial) for trial in whole}
    outcome.count(set(names) == set(expected), f"{where}: lost {set(expected) - set(names)}")
    outcome.count(not names or max(names.values()) == 1, f"{where}: doubled {names}")
    for trial in trials:
        same = _what_counts(trial) == expected.get((trial.piece, trial.seed))
        outcome.count(same, f"{where}: another end of {trial.piece}, seed {trial.seed}")
    kept = all(trial in trials for trial in seen if trial.status == "done")
    outcome.count(kept, f"{where}: what was written before a kill is not there, or changed")
    states = list(journal)
    outcome.count(all(state != "RUNNING" for _, state in states), f"{where}: trials are still RUNNING")
    ends = Counter(key for key, state in states if state == "COMPLETE")
    outcome.count(not ends or max(ends.values()) == 1, f"{where}: completed twice: {ends}")


def killed_search(scale: Scale, folder: Path) -> Outcome:
    """Search with one process at a time; again; and again with kills: the same suggestions, the same losses."""
    outcome = Outcome()
    if not _can_see_children():
        return outcome
    ranges = {"train.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "train.batch_size": {"choices": [4, 8]}}
    description = {
        "pieces": {"plain": _PIECES["plain"]},
        "seeds": [0],
        "budget": {"steps": 30},
        "search": ranges,
        "trials": scale.of(full=10, quick=3),
    }
    kills = scale.of(full=5, quick=1)
    moments = _LONGEST * RandomStream(0, "studies/search/kills").uniform(kills, 1)[:, 0]
    drawn = []
    for name in ("once", "again", "killed"):
        search = _Subject(folder, name, workers=1, **description)
        done = 0
        while name == "killed" and done < kills and search.kill(float(moments[done]), "all"):
            done += 1
        outcome.count(not (said := search.finish()), f"{name}: {said}")
        drawn.append([(trial.settings, trial.status, trial.loss) for trial in search.trials if trial.piece != "plain"])
        scale.told(len(drawn), 3)
    for name, other in zip(("again", "killed"), drawn[1:], strict=True):
        outcome.tried += len(drawn[0]) - 1
        outcome.count(other == drawn[0], f"{name}: {json.dumps([drawn[0], other])}")
    outcome.measured = {"suggestions": len(drawn[0]), "kills": done}
    return outcome


def _what_counts(trial: Trial) -> Mapping[str, Any]:
    """All that does not depend on how fast the machine was."""
    return trial.model_dump(exclude={"seconds", "seconds_per_step", "peak_bytes", "environment"})


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in _list_of_children(pid).read_text(encoding="ascii").split()]
    except OSError:
        return []


def _list_of_children(pid: int) -> Path:
    return Path(f"/proc/{pid}/task/{pid}/children")


def _can_see_children() -> bool:
    return _list_of_children(os.getpid()).exists()


EXPERIMENTS = (
    Experiment(
        "R23",
        "`kill -9` of a study, of a trial's process, of all at once",
        "no trial is lost or doubled, none stays RUNNING; each ends with the SHA-256 of the study that was left alone",
        killed_studies,
        needs=("optuna",),
    ),
    Experiment(
        "R23",
        "a search, again, and with kills in between",
        "the same first ten suggestions, and the same losses",
        killed_search,
        needs=("optuna",),
    ),
)
