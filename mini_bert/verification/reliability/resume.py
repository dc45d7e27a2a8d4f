"""Is a run that was stopped and resumed the very same run? (R1, R2)"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import STEPS, Subject, losses

TELLING = (1, 4, 11, 21, 22, 23, 31, 39)
"""Stops that the quick scale tries: the first step, the end of the warm-up, the middle of an epoch, before its last
batch, at it, after it, in the next epoch, before the last step."""
_TELLING_OF_ALL = (23,)
"""The stop that the quick scale tries with every optimiser: between two steps of slow weights."""
KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimizer__name": "sgd"},
    "lion": {"optimizer__name": "lion", "train__lr": 1e-3},
    "adafactor": {"optimizer__name": "adafactor"},
    "muon": {"optimizer__name": "muon"},
    "lookahead": {"optimizer__lookahead": 3},
    "averaged": {"optimizer__ema_decay": 0.9},
}
"""What an optimiser may be, and what may stand around it, as settings."""
_AT_ONCE = 2
"""Processes."""


class Way(NamedTuple):
    """How a run is made."""

    kind: str = "adamw"
    dropout: float = 0.1
    in_flight: int = 4
    threads: int = 2


def resume_anywhere(scale: Scale, folder: Path) -> Outcome:
    """Stop after step k, go on in a new process; for each k, with and without dropout, in flight and on threads.

    For AdamW in all these ways, for every other optimiser in one; at the quick scale, after one step.
    """
    outcome = Outcome()
    stops = TELLING if scale.quick else tuple(range(1, STEPS))
    ways = [Way()] if scale.quick else [Way("adamw", *others) for others in product((0.0, 0.1), (1, 4), (1, 2))]
    others = [Way(kind) for kind in KINDS if kind != "adamw"]
    trials = [(way, stop) for way in ways for stop in stops]
    trials += [(way, stop) for way in others for stop in (_TELLING_OF_ALL if scale.quick else stops)]
    whole: dict[Way, tuple[str, Any]] = {}

    def all_of(way: Way) -> None:
        subject = _subject(folder, "whole", way)
        whole[way] = (subject.train().result["sha256"], losses(subject.run))

    def one(trial: tuple[Way, int]) -> None:
        way, stop = trial
        subject = _subject(folder, f"stop-{stop}", way)
        part, rest = subject.train(stop_at=stop), subject.train(resume="auto")
        where = (
            f"{way.kind}, dropout {way.dropout}, {way.in_flight} in flight, {way.threads} threads, after step {stop}"
        )
        if part.result.get("step") != stop:
            outcome.count(False, f"{where}: it did not stop there. {part.errors[-200:]}")
        elif rest.code:
            outcome.count(False, f"{where}: the resume failed. {rest.errors[-200:]}")
        else:
            same = (rest.result["sha256"], losses(subject.run)) == whole[way]
            outcome.count(same, f"{where}: another hash or other losses")
        scale.told(outcome.tried, len(trials))

    all_of(ways[0])  # it prepares the tokens
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(all_of, [*ways[1:], *others]))
        list(pool.map(one, trials))
    outcome.measured = {
        "stops": len(stops),
        "ways": len(ways) + len(others),
        "optimizers": 1 + len(others),
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


def _subject(folder: Path, name: str, way: Way) -> Subject:
    return Subject(
        folder,
        run__name=f"{name}-{way.kind}-{way.dropout}-{way.in_flight}-{way.threads}",
        model__hidden_dropout_prob=way.dropout,
        model__attention_probs_dropout_prob=way.dropout,
        train__in_flight=way.in_flight,
        run__threads=way.threads,
        **KINDS[way.kind],
    )


EXPERIMENTS = (
    Experiment(
        "R1",
        "stop after each step, with each optimiser, resume in a new process",
        "the same SHA-256 of parameters and all that the optimiser keeps, the same losses in the log",
        resume_anywhere,
    ),
    Experiment("R2", "several resumes within an epoch", "the same end, every row of the epoch once", many_resumes),
)
