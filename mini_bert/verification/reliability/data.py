"""Is a text that is prepared by any number of processes, killed again and again, the same text? (R2, R4, R14, R19)"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mini_bert.random_streams import RandomStream
from mini_bert.verification.reliability.preparation import (
    BATCH_CHARACTERS,
    BATCHES_BETWEEN_CHECKPOINTS,
    VOCAB_SIZE,
    Preparation,
    Told,
    peak_of_tree,
    told,
    write_text,
)
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

if TYPE_CHECKING:
    from mini_bert.data.batches import BatchStream

MOST_BYTES = 500_000_000
MOST_BYTES_OF_ROWS = 100_000_000
_KILLS_A_PREPARATION = 3
_NOTHING_LEFT = 1 << 60
_LOST = (BATCHES_BETWEEN_CHECKPOINTS + 1) * (BATCH_CHARACTERS + 4500)
"""Characters that a kill may cost: an interval between checkpoints, in batches that end with a section."""


def kills(scale: Scale, folder: Path) -> Outcome:
    """Kill the preparing process at random moments, three times; finish with another number of processes; compare."""
    outcome, size, wanted = Outcome(), scale.of(full=2_500_000, quick=400_000), scale.of(full=60, quick=4)
    kinds = ("a.txt", "b.txt.gz", "c.jsonl")[: scale.of(full=3, quick=2)]
    paths = [write_text(folder / name, size, seed) for seed, name in enumerate(kinds)]
    whole = [_undisturbed(folder / "whole" / path.name, path) for path in paths]
    kills = trial = went_on = batches = least = 0
    while kills < wanted:
        path, (files, report) = paths[trial % len(paths)], whole[trial % len(paths)]
        preparation = Preparation(folder / f"{trial}", [str(path)])
        reports: list[list[Told]] = []
        for number, moment in enumerate(RandomStream(1, "moments", trial).uniform(_KILLS_A_PREPARATION, 2)):
            done, killed = _killed(
                preparation, (0, 2, 3)[(trial + number) % 3], int(moment[0] * len(report)), moment[1]
            )
            reports.append(done)
            kills += killed
        try:
            reports.append(preparation.run((2, 3, 0)[trial % 3])[0])
        except RuntimeError as error:
            outcome.count(False, f"preparation {trial}: {error}")
        outcome.count(preparation.digests() == files, f"preparation {trial} of {path.name}: other files")
        for before, after in pairwise(reports):
            lost = _tokenised(before) - _begun(after)
            outcome.count(lost <= _LOST, f"preparation {trial} of {path.name}: {lost:,} characters done again")
        went_on += sum(0 < _begun(report) < _NOTHING_LEFT for report in reports)
        batches += sum(map(_batches, reports))
        least += _batches(report)
        shutil.rmtree(folder / f"{trial}")
        trial += 1
        scale.told(kills, wanted)
    outcome.count(went_on > 0, "no process went on with the work of another")
    outcome.measured = {
        "kills": kills,
        "preparations": trial,
        "processes_that_went_on_half_way": went_on,
        "share_of_batches_done_again": round(batches / least - 1, 3),
    }
    return outcome


def _undisturbed(folder: Path, path: Path) -> tuple[dict[str, str], list[Told]]:
    """The files that must come out, and what is told on the way."""
    preparation = Preparation(folder, [str(path)])
    report, _ = preparation.run(0)
    return preparation.digests(), report


def _killed(preparation: Preparation, workers: int, lines: int, moment: float) -> tuple[list[Told], int]:
    """What a process told until it was killed, up to 0.1 s after so many lines, and 1; 0 if it had finished before."""
    seconds = 0.1 * moment if lines else 0.5 * moment
    with preparation.start(workers) as process:
        assert process.stdout is not None
        read = [process.stdout.readline() for _ in range(lines)]
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        output, _ = process.communicate()
    return told("".join(read) + output), int(process.returncode == -signal.SIGKILL)


def _of_tokens(report: Iterable[Told]) -> list[Told]:
    return [line for line in report if line.what.startswith("tokenising")]


def _tokenised(report: Iterable[Told]) -> int:
    """Characters that were tokenised when the process told for the last time."""
    return max((line.done for line in _of_tokens(report)), default=0)


def _begun(report: Iterable[Told]) -> int:
    """Characters that were tokenised when the process began."""
    lines = _of_tokens(report)
    if not lines:
        return _NOTHING_LEFT
    return lines[0].done if "going on" in lines[0].what else 0


def _batches(report: Iterable[Told]) -> int:
    lines = _of_tokens(report)
    return len(lines) - sum("going on" in line.what for line in lines[:1])


def take_over(scale: Scale, folder: Path) -> Outcome:
    """Start a second process while the first one prepares; kill the first: the second must go on at once."""
    outcome, trials = Outcome(), scale.of(full=10, quick=1)
    path = write_text(folder / "a.txt", 400_000)
    files, report = _undisturbed(folder / "whole", path)
    for trial in range(trials):
        preparation = Preparation(folder / f"{trial}", [str(path)])
        lines = 1 + int(RandomStream(2, "lines", trial).integers(len(report) - 2, 1)[0, 0])
        with preparation.start(0) as first, preparation.start(2) as second:
            assert first.stdout is not None
            for _ in range(lines):
                first.stdout.readline()
            first.kill()
            errors = second.communicate()[1]
        outcome.count(second.returncode == 0, f"trial {trial}: the second process failed: {errors[-300:]}")
        outcome.count(preparation.digests() == files, f"trial {trial}: other files")
        scale.told(trial + 1, trials)
    return outcome


def memory(scale: Scale, folder: Path) -> Outcome:
    """Tokenise a large text, looking every 50 ms at what the process and its two workers hold in memory together."""
    outcome, size = Outcome(), scale.of(full=1 << 30, quick=20 << 20)
    path = write_text(folder / "large.txt", size, words=200_000)
    size = path.stat().st_size
    preparation = Preparation(folder, [str(path)], vocab_size=8192, as_it_is=True)
    with preparation.start(2) as process:
        peaks = peak_of_tree(process)
        output, errors = process.communicate()
    if process.returncode:
        outcome.count(False, f"the preparation failed: {errors[-300:]}")
        return outcome
    said = json.loads(output.splitlines()[-1])
    outcome.count(peaks.together < MOST_BYTES, f"{peaks.together / 1e6:,.0f} MB for {size / 1e6:,.0f} MB of text")
    for layout, most in said["rows_bytes"].items():
        outcome.count(most < MOST_BYTES_OF_ROWS, f"{most / 1e6:,.0f} MB for the rows of layout {layout}")
    outcome.measured = {
        "text_mb": round(size / 1e6),
        "tokens": said["tokens"],
        "seconds": round(said["seconds"], 1),
        "mb_per_second": round(size / 1e6 / said["seconds"], 2),
        "peak_mb_together": round(peaks.together / 1e6),
        "peak_mb_process": round(peaks.process / 1e6),
        "peak_mb_worker": round(peaks.child / 1e6),
        "peak_mb_of_rows": {layout: round(most / 1e6, 1) for layout, most in said["rows_bytes"].items()},
    }
    return outcome


def order(scale: Scale, folder: Path) -> Outcome:
    """Prepare three weighted corpora with 0, 1, 2 and 4 workers, and ask for the batches in every which way.

    The sha256 of all row numbers, ids, masks and targets must be one; every row must come as often as it should.
    """
    outcome, steps = Outcome(), scale.of(full=240, quick=40)
    size = scale.of(full=400_000, quick=100_000)
    weights = {"a.txt": 1.0, "b.jsonl": 2.5, "c.txt.gz": 0.4}
    corpus = [f"{write_text(folder / name, size, seed)}={weights[name]}" for seed, name in enumerate(weights)]
    for layout in ("packed", "sentences"):
        expected = None
        for workers in (0, 1, 2, 4)[:: scale.of(full=1, quick=2)]:
            prepared = Preparation(folder / str(workers), corpus)
            if not prepared.cache.exists():
                prepared.run(workers)
            stream = _stream(prepared, corpus, layout)
            found = [_digest(stream, step) for step in range(steps)]
            expected = expected or found
            outcome.count(found == expected, f"{layout}, {workers} workers: other batches")
            scale.told(workers, 4)
        assert expected is not None
        for first in range(1, steps, scale.of(full=7, quick=13)):
            resumed = _stream(prepared, corpus, layout)
            rest = [_digest(resumed, step) for step in range(first, min(first + 9, steps))]
            outcome.count(rest == expected[first : first + 9], f"{layout}, resumed at batch {first}: other batches")
        shuffled = np.argsort(RandomStream(4, "steps").uniform(steps)[:, 0]).tolist()
        stream = _stream(prepared, corpus, layout)
        for step in shuffled:
            outcome.count(
                _digest(stream, step) == expected[step], f"{layout}, batch {step} asked for out of turn: another"
            )
        for corpus_number, came in enumerate(_visits(stream, epochs=3)):
            outcome.count(came, f"{layout}, corpus {corpus_number}: some rows came more often than others in 3 epochs")
    outcome.measured = {"batches": steps, "rows_per_epoch": stream.rows_per_epoch}
    return outcome


def _stream(prepared: Preparation, corpus: list[str], layout: str) -> BatchStream:
    from mini_bert.config.schema import Config
    from mini_bert.data.batches import BatchStream

    sections = {
        "data": {"corpus": corpus, "layout": layout, "held_out_fraction": 0.1},
        "model": {"vocab_size": VOCAB_SIZE, "max_position_embeddings": 32},
        "train": {"batch_size": 24},
    }
    config = Config.model_validate(sections)
    opened = prepared.open(config)
    return BatchStream(opened.train, config, opened.tokenizer)


def _digest(stream: BatchStream, step: int) -> str:
    batch = stream.batch(step)
    arrays = (stream.row_numbers(step), batch.input_ids, batch.masked_positions, batch.target_ids)
    return hashlib.sha256(b"".join(np.asarray(array, "<i8").tobytes() for array in arrays)).hexdigest()


def _visits(stream: BatchStream, epochs: int) -> Iterator[bool]:
    """For each corpus whether after each epoch every row has come equally often, or once more than others."""
    from mini_bert.data.order import visits_per_epoch

    rows = np.concatenate([stream.row_numbers(step) for step in range((epochs + 1) * stream.steps_per_epoch)])
    counts, borders = stream.rows.counts, np.cumsum(stream.rows.counts)[:-1]
    visits = visits_per_epoch(counts, stream.rows.weights)
    right = [True] * len(counts)
    for epoch in range(1, epochs + 1):
        came = np.split(np.bincount(rows[: epoch * stream.rows_per_epoch], minlength=sum(counts)), borders)
        for number, (mine, of, rows_here) in enumerate(zip(came, visits, counts, strict=True)):
            right[number] &= mine.sum() == epoch * of
            right[number] &= set(mine.tolist()) <= {epoch * of // rows_here, -(-epoch * of // rows_here)}
    yield from right


EXPERIMENTS = (
    Experiment(
        "R4",
        "`kill -9` of a preparation at random moments",
        "the next call goes on where it was, whatever the number of processes, to the same files",
        kills,
    ),
    Experiment(
        "R4",
        "`kill -9` of the first of two preparations of one corpus",
        "the other goes on with it, to the same files",
        take_over,
    ),
    Experiment(
        "R14",
        "order of the data over workers, resumes, and batches asked for in any order",
        "one sha256 of all batches; every row once an epoch, or as often as its weight says",
        order,
    ),
    Experiment(
        "R19", "a text larger than memory is tokenised", "1 GB in under 500 MB, its rows in under 100 MB", memory
    ),
)
