"""How many mutants do the tests catch? Each is tried in a process of its own, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from mini_bert.errors import InvalidInputError
from mini_bert.verification.mutants.mutant import Mutant
from mini_bert.verification.mutants.project import Project
from mini_bert.verification.mutants.records import Record, Records, key_of
from mini_bert.verification.mutants.trial import Limits, Outcome, Trial, warm

SECONDS_BETWEEN_LOOKS = 0.02
CLEAN_LIMITS = Limits(600.0, 1800.0)
"""For the tests of a file without a mutant."""

LEAST_SECONDS = 10.0
"""A trial that takes less processor time than this is not one that never ends."""

Subject = TypeVar("Subject")
Report = Callable[[str, int, int, Record | None], None]
"""Called with what is being done, how much of it is done, how much there is, and what has just come out."""


def hunt(
    project: Project,
    mutants: Sequence[Mutant],
    records: Records,
    *,
    workers: int = 2,
    again: bool = False,
    least_seconds: float = LEAST_SECONDS,
    report: Report = lambda what, done, total, record: None,
) -> list[Record]:
    """Try every mutant that has no record yet, and return the records of all in their order.

    Args:
        project: what is mutated, with the table of tests.
        mutants: those to try.
        records: where results are looked up and put down.
        workers: trials at a time.
        again: only those that survived when they were tried last; the others keep their record, whatever tests made it.
        least_seconds: of processor time for a trial; five times what the clean run takes, if that is more.
        report: is told how far it is.

    Raises:
        InvalidInputError: tests fail without any mutant.
    """
    keys = {mutant: key_of(project, mutant) for mutant in mutants}
    known = {
        mutant: records.latest[mutant.name]
        for mutant in mutants
        if again and mutant.name in records.latest and not records.latest[mutant.name].survived
    }
    waiting = [mutant for mutant in mutants if mutant not in known and keys[mutant] not in records.by_key]
    if waiting:
        warm()
        limits = _limits(project, {mutant.path for mutant in waiting}, workers, least_seconds, report)
        started = ((m, _start(project, {m.path: m.source}, m.path, limits[m.path])) for m in waiting)
        for done, (mutant, outcome) in enumerate(_outcomes(started, workers), start=1):
            record = _record(mutant, keys[mutant], outcome)
            records.add(record)
            report("mutants", done, len(waiting), record)
    return [known.get(mutant) or records.by_key[keys[mutant]] for mutant in mutants]


def _limits(
    project: Project, files: Iterable[str], workers: int, least_seconds: float, report: Report
) -> dict[str, Limits]:
    """Limits for each file's trials, from a run of its tests with its own text injected: so injecting harms nothing."""
    first = {project.tests_of(file): file for file in sorted(files, reverse=True)}
    started = ((file, _start(project, {file: project.source(file)}, file, CLEAN_LIMITS)) for file in first.values())
    clean: dict[tuple[str, ...], Limits] = {}
    for done, (file, outcome) in enumerate(_outcomes(started, workers), start=1):
        if not outcome.passed:
            raise InvalidInputError(
                f"tests of {file}",
                got=f"{outcome.how}: {outcome.by}",
                expected="tests that pass as long as nothing is mutated",
            )
        clean[project.tests_of(file)] = Limits(
            max(least_seconds, 5.0 * outcome.cpu_seconds), 60.0 + 20.0 * outcome.wall_seconds
        )
        report("tests without a mutant", done, len(first), None)
    return {file: clean[project.tests_of(file)] for file in files}


def _start(project: Project, sources: Mapping[str, str], file: str, limits: Limits) -> Trial:
    return Trial(project.root, project.package, sources, project.tests_of(file), limits)


def _outcomes(started: Iterator[tuple[Subject, Trial]], workers: int) -> Iterator[tuple[Subject, Outcome]]:
    """Outcomes as they come, with `workers` trials running; `started` starts a trial each time it is asked."""
    running: list[tuple[Subject, Trial]] = []
    try:
        while True:
            while len(running) < workers and (one := next(started, None)) is not None:
                running.append(one)
            if not running:
                return
            for one in list(running):
                outcome = one[1].outcome()
                if outcome is not None:
                    running.remove(one)
                    yield one[0], outcome
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        for _, trial in running:
            trial.stop()


def _record(mutant: Mutant, key: str, outcome: Outcome) -> Record:
    return Record(
        key,
        mutant.name,
        mutant.path,
        mutant.line,
        mutant.operator,
        mutant.before,
        mutant.after,
        outcome.passed,
        outcome.how,
        outcome.by,
        round(outcome.cpu_seconds, 2),
    )
