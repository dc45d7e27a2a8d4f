"""One `study run`: what is found so far, taken up from the trials' processes and written to the result file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from mini_bert.atomic_files import require_place
from mini_bert.data.tokens import open_tokens
from mini_bert.data.work import Progress
from mini_bert.errors import ConfigError, DataError
from mini_bert.studies import worker
from mini_bert.studies.comparison import compare
from mini_bert.studies.pieces import baseline_config, config_of
from mini_bert.studies.result import StudyResult, Trial
from mini_bert.studies.schema import START, Study
from mini_bert.training.resuming import data_sha256


class Status(NamedTuple):
    """How far a study is."""

    done: int
    total: int
    running: tuple[str, ...]
    """Piece, seed and step of each trial under way."""
    seconds_left: float | None
    finished: Trial | None
    """The trial that has just ended."""


@dataclass
class Session:
    """One `study run`."""

    study: Study
    folder: Path
    result_file: Path
    keep: bool
    report: Callable[[Status], None]
    result: StudyResult
    data_sha256: str
    """Of the text as it is now"""
    label_of: Callable[[Trial], str | None] | None = None
    """What the study calls a trial now, or None if it is not one of its trials; not known until they are planned"""
    ended_now: set[str] = field(default_factory=set)
    """Keys of the trials that have ended in this session"""

    def collect(self) -> list[Trial]:
        """Take up what processes have written since; returns it, and writes the result."""
        known = {trial.key: trial for trial in self.result.trials}
        found = []
        for path in sorted((self.folder / worker.TRIALS).glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            if path.stem in known and known[path.stem].status != "failed":
                continue
            try:
                trial = Trial.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue
            (trial,) = self._named([trial]) or [None]
            if trial is not None and trial != known.get(trial.key):
                found.append(trial)
                known[trial.key] = trial
        if found:
            self.write(list(known.values()))
        for trial in found:
            if not self.keep and trial.status != "failed" and trial.piece != START:
                self._remove_checkpoints(trial)
        return found

    def write(self, trials: Sequence[Trial]) -> None:
        """Write the result file with these trials."""
        self.result = self.result.model_copy(
            update={"about": self.study.question, "study": self.study.to_dict(), "trials": list(trials)}
        )
        self.result = self.result.model_copy(update={"comparison": compare(self.result)})
        self.result.write(self.result_file)

    def forget(self, key: str) -> None:
        """A trial whose run is gone has to be trained again."""
        (self.folder / worker.TRIALS / f"{key}.json").unlink(missing_ok=True)
        self.write([trial for trial in self.result.trials if trial.key != key])

    def set_aside(self) -> int:
        """Trials of other settings or another budget leave the result, not the disk; returns how many.

        Changed back, they are there again.
        """
        named = self._named(self.result.trials)
        strangers = [trial for trial in self.result.trials if trial.key not in {one.key for one in named}]
        for trial in strangers:
            worker.written(self.folder, trial)
        self.write(named)
        return len(strangers)

    def finished(self) -> set[str]:
        """Keys of the trials that nobody has to train any more; those that an error ended are tried again."""
        return {trial.key for trial in self.result.trials if trial.status != "failed" or trial.key in self.ended_now}

    def _named(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those of the trials that are the study's as it is now, called as it calls them now.

        Raises:
            DataError: one was trained on another text.
        """
        if self.label_of is None:
            return list(trials)
        named = []
        for trial in trials:
            label = self.label_of(trial)
            if label is None:
                continue
            if trial.data_sha256 not in (None, self.data_sha256) and self._reads_what_all_read(trial):
                raise DataError(
                    str(self.result_file),
                    got=f"a trial of {label} on another text than {' + '.join(self.study.corpus)} is now",
                    expected="trials on one text",
                    advice=f"Give the study another name, or move {self.result_file} and {self.folder} away.",
                )
            named.append(trial if trial.piece == label else trial.model_copy(update={"piece": label}))
        return named

    def _reads_what_all_read(self, trial: Trial) -> bool:
        try:
            return config_of(self.study, trial.settings).data == baseline_config(self.study).data
        except ConfigError:
            return False

    def _remove_checkpoints(self, trial: Trial) -> None:
        for run in (self.folder / worker.RUNS).glob(f"*-{trial.seed}-{trial.key[:8]}"):
            shutil.rmtree(run / "checkpoints", ignore_errors=True)


def opened(
    study: Study,
    directory: Path,
    result_file: Path,
    *,
    keep: bool = False,
    report: Callable[[Status], None] = lambda status: None,
    progress: Progress | None = None,
) -> Session:
    """A session with what was found before, and the corpus ready for every process.

    Raises:
        DataError: the corpus cannot be used, or the result file is another study's.
    """
    require_place(result_file)
    known = known_result(study, result_file)
    base = baseline_config(study)
    tokens = open_tokens(base.data, base.tokenizer, base.model.vocab_size, progress=progress)
    text = data_sha256(tokens.provenance)
    return Session(study, directory / study.name, result_file, keep, report, known, text)


def known_result(study: Study, path: Path) -> StudyResult:
    """What was found before, of this study.

    Raises:
        DataError: the file holds something else.
    """
    if not path.exists():
        return StudyResult(about=study.question, study=study.to_dict())
    result = StudyResult.read(path)
    if result.study.get("name") != study.name:
        raise DataError(
            str(path), got=f"the result of {result.study.get('name')}", expected=f"that of {study.name}, or no file"
        )
    return result
