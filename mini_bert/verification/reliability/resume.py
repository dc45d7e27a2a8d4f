"""Is a run that was stopped and resumed the very same run? (R1, R2)"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import STEPS, Subject, losses

TELLING = (1, 4, 11, 21, 22, 23, 31, 39)
"""Stops that the quick scale tries: the first step, the end of the warm-up, the middle of an epoch, before its last
batch, at it, after it, in the next epoch, before the last step."""
_AT_ONCE = 2
"""Processes."""


def resume_anywhere(scale: Scale, folder: Path) -> Outcome:
    """Stop after step k, go on in a new process; for each k, with and without dropout, in flight and on threads."""
    outcome = Outcome()
    stops = TELLING if scale.quick else tuple(range(1, STEPS))
    ways = [(0.1, 4, 2)] if scale.quick else list(product((0.0, 0.1), (1, 4), (1, 2)))
    trials = [(way, stop) for way in ways for stop in stops]
    whole: dict[tuple[float, int, int], tuple[str, Any]] = {}
    for way in ways:
        subject = _subject(folder, "whole", *way)
        whole[way] = (subject.train().result["sha256"], losses(subject.run))

    def one(trial: tuple[tuple[float, int, int], int]) -> None:
        way, stop = trial
        subject = _subject(folder, f"stop-{stop}", *way)
        part, rest = subject.train(stop_at=stop), subject.train(resume="auto")
        where = f"dropout {way[0]}, {way[1]} in flight, {way[2]} threads, stopped after step {stop}"
        if part.result.get("step") != stop:
            outcome.count(False, f"{where}: it did not stop there. {part.errors[-200:]}")
        elif rest.code:
            outcome.count(False, f"{where}: the resume failed. {rest.errors[-200:]}")
        else:
            same = (rest.result["sha256"], losses(subject.run)) == whole[way]
            outcome.count(same, f"{where}: another hash or other losses")
        scale.told(outcome.tried, len(trials))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(one, trials))
    outcome.measured = {
        "stops": len(stops),
        "ways": len(ways),
        "hashes_of_whole_runs": len({w[0] for w in whole.values()}),
    }
    return outcome


def many_resumes(scale: Scale, folder: Path) -> Outcome:
    """3, 5 and 10 resumes within one epoch: the same end, and every row of the epoch once."""
    from mini_bert.config.load import load_config
    from mini_bert.data.batches import BatchStream
    from mini_bert.data.tokens import open_tokens

    outcome = Outcome()
    whole = Subject(folder)
    expected = (whole.train().result["sha256"], losses(whole.run))
    config = load_config([str(whole.run / "config.yaml")])
    tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
    stream = BatchStream(tokens.train, config, tokens.tokenizer)
    chains = [(2, 5, 9)] if scale.quick else [(2, 5, 9), (1, 4, 9, 15, 20), tuple(range(1, 21, 2))]
    for stops in chains:
        subject = Subject(folder, run__name=f"{len(stops)}-resumes")
        for stop in stops:
            subject.train(stop_at=stop, resume="auto")
        end = subject.train(resume="auto")
        steps = [step for step, _ in losses(subject.run)]
        rows = [row for step in steps for row in stream.row_numbers(step - 1).tolist()][: stream.rows_per_epoch]
        outcome.count(
            (end.result.get("sha256"), losses(subject.run)) == expected,
            f"{len(stops)} resumes: another hash or other losses",
        )
        outcome.count(
            steps == list(range(1, STEPS + 1)) and sorted(rows) == list(range(stream.rows_per_epoch)),
            f"{len(stops)} resumes: not every row of the epoch once",
        )
        scale.told(outcome.tried, 2 * len(chains))
    outcome.measured = {"rows_an_epoch": stream.rows_per_epoch}
    return outcome


def _subject(folder: Path, name: str, dropout: float, in_flight: int, threads: int) -> Subject:
    return Subject(
        folder,
        run__name=f"{name}-{dropout}-{in_flight}-{threads}",
        model__hidden_dropout_prob=dropout,
        model__attention_probs_dropout_prob=dropout,
        train__in_flight=in_flight,
        run__threads=threads,
    )


EXPERIMENTS = (
    Experiment(
        "R1",
        "stop after each step, resume in a new process",
        "the same SHA-256 of parameters and moments, the same losses in the log",
        resume_anywhere,
    ),
    Experiment("R2", "several resumes within an epoch", "the same end, every row of the epoch once", many_resumes),
)
