"""R21: is the log whole, whatever happens to its writer, and does a resume leave no step out and none twice?"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mini_bert.errors import DataError, StorageError
from mini_bert.random_streams import RandomStream
from mini_bert.training.metrics_log import FILE_NAME, MetricsLog, Record, keep_until, read_metrics
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import STEPS, Subject, losses

_WRITER = """
import sys
from pathlib import Path
from mini_bert.training.metrics_log import MetricsLog
log, step, sizes = MetricsLog(Path(sys.argv[1])), 0, [int(size) for size in sys.argv[2:]]
while True:
    step += 1
    log.write({"kind": "train", "step": step, "text": "x" * sizes[step % len(sizes)]})
    if step == 1:
        print("running", flush=True)
"""
_SIZES = ("200", "300", "90000", "1000000")
"""Bytes of the records that are written in turn: short ones as they are, and long ones that are easily torn."""


def _kills_while_appending(scale: Scale, folder: Path) -> Outcome:
    outcome, trials, torn = Outcome(), scale.of(full=200, quick=5), 0
    delays = 0.03 * RandomStream(21, "kill").uniform(trials)[:, 0]
    for trial, delay in enumerate(delays):
        path = folder / f"{trial}.jsonl"
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(path), *_SIZES], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        torn += not path.read_bytes().endswith(b"\n")
        outcome.count(*_holds_up(path, expected=None))
        path.unlink()
        scale.told(trial + 1, trials)
    outcome.measured = {"last_lines_torn": torn}
    return outcome


def _tears_at_every_byte(scale: Scale, folder: Path) -> Outcome:
    """The last line cut after each of its bytes, for records as a training writes them."""
    outcome, path = Outcome(), folder / FILE_NAME
    logs, every = _logs()[: scale.of(full=4, quick=1)], scale.of(full=1, quick=7)
    total = sum(len(log.splitlines()[-1]) for log in logs) // every
    for log in logs:
        last = log[:-1].rfind(b"\n") + 1
        for cut in range(last, len(log), every):
            path.write_bytes(log[:cut])
            outcome.count(*_holds_up(path, expected=log[:last].count(b"\n")))
            scale.told(outcome.tried, total)
    return outcome


def _failing_writes(scale: Scale, folder: Path) -> Outcome:
    """The disk is full after each number of bytes of a record, and the torn line can or cannot be cut off at once."""
    outcome, path = Outcome(), folder / FILE_NAME
    record = {"kind": "train", "step": 2, "loss": 4.5 + 1 / 3}
    for cut_fails in (False, True):
        for room in range(0, len(_line(record)), scale.of(full=1, quick=8)):
            path.unlink(missing_ok=True)
            with MetricsLog(path) as log:
                log.write({"kind": "train", "step": 1})
                noticed = False
                try:
                    with _full_disk(room, cut_fails):
                        log.write(record)
                except StorageError:
                    noticed = True
                log.write({"kind": "train", "step": 3})
            steps = _steps(path)
            wrong = f"room for {room} bytes, cut fails {cut_fails}, noticed {noticed}: steps {steps}"
            outcome.count(noticed and steps == [1, 3], wrong)
    return outcome


def _flipped_bits(scale: Scale, folder: Path) -> Outcome:
    """One bit of the log flipped: a resume goes on, and keeps the log aside if a line is no record any more."""
    outcome, path, trials = Outcome(), folder / FILE_NAME, scale.of(full=1000, quick=50)
    log, noticed = _logs()[0], 0
    bits = RandomStream(21, "flip").integers(8 * len(log), trials)[:, 0]
    for trial, bit in enumerate(bits):
        flipped = bytearray(log)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        told: list[str] = []
        try:
            kept = keep_until(path, 100, warn=told.append)
        except Exception as error:  # whatever it is, it would hold up the run
            outcome.count(False, f"bit {bit} flipped: {error!r}")
            continue
        aside = list(folder.glob("metrics.damaged-*.jsonl"))
        noticed += bool(told)
        lost = log.count(b"\n") - len(kept)
        said = bool(told) == bool(aside) and all(file.read_bytes() == flipped for file in aside)
        readable = read_metrics(path) == kept
        # a flip in a number or a name is a record still; a flip of a line's end joins two lines or cuts one in two
        outcome.count(said and readable and lost <= 2, f"bit {bit} flipped: {lost} records lost, told {told}")
        for file in aside:
            file.unlink()
        scale.told(trial + 1, trials)
    outcome.measured = {"damaged_lines_noticed": noticed}
    return outcome


def _killed_and_resumed(scale: Scale, folder: Path) -> Outcome:
    """A training killed several times at random steps: every step stands in the log once, with the loss it had."""
    outcome, trials, kills = Outcome(), scale.of(full=15, quick=1), scale.of(full=3, quick=1)
    undisturbed = Subject(folder / "undisturbed", train__save_every=7)
    expected = undisturbed.train().result["losses"]
    first = scale.of(full=1, quick=8)  # a few trials had better not be spent before the first checkpoint
    steps = first + RandomStream(21, "kill a training").integers(STEPS - 1 - first, trials, kills)
    for trial in range(trials):
        subject = Subject(folder / str(trial), train__save_every=7)
        killed_at = []
        for step in sorted(int(step) for step in steps[trial]):
            if _kill_after(subject, step):
                killed_at.append(step)
        ended = subject.train(resume="auto")
        found = [list(pair) for pair in losses(subject.run)] if ended.code == 0 else []
        wrong = f"killed after steps {killed_at}: {_difference(found, expected)}{ended.errors}"
        outcome.count(found == expected, wrong)
        order = [record["step"] for record in read_metrics(subject.run / FILE_NAME)] if ended.code == 0 else []
        outcome.count(order == sorted(order), f"killed after steps {killed_at}: records out of order")
        scale.told(trial + 1, trials)
    outcome.measured = {"steps": STEPS, "kills_in_each": kills}
    return outcome


def _kill_after(subject: Subject, step: int) -> bool:
    """Start a training (again), and kill it as soon as its log has a record of the step; False if it was too fast."""
    log = subject.run / FILE_NAME
    with subject.start(resume="auto") as process:
        while process.poll() is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if log.exists() and any(record["step"] >= step for record in read_metrics(log)):
                    process.kill()
            time.sleep(0.001)
    return process.returncode == -signal.SIGKILL


def _holds_up(path: Path, expected: int | None) -> tuple[bool, str]:
    """Whether a log whose last line may be torn is read, written on and shortened as it should be."""
    torn = not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            steps = [record["step"] for record in read_metrics(path)]
        except DataError as error:
            return False, f"{path.name} is not readable: {error}"
    count = len(steps)
    if steps != list(range(1, count + 1)) or (expected is not None and count != expected):
        return False, f"{path.name}: steps {steps[-3:]} at the end, {count} in all"
    if len(caught) != torn:
        return False, f"{path.name}: {len(caught)} warnings, and the last line is {'torn' if torn else 'whole'}"
    with MetricsLog(path) as log:
        log.write({"kind": "train", "step": count + 1})
    if _steps(path) != list(range(1, count + 2)):
        return False, f"{path.name}: the next writer did not go on after step {count}"
    kept = keep_until(path, count // 2)
    if _steps(path) != list(range(1, count // 2 + 1)) or len(kept) != count // 2:
        return False, f"{path.name}: not shortened to step {count // 2}"
    return True, ""


def _logs() -> list[bytes]:
    """Logs of three records each, which end with records of different kinds."""
    draws = RandomStream(21, "records").uniform(4, 8)
    made = []
    for row, last in enumerate(("train", "evaluation", "checkpoint", "skipped")):
        loss, accuracy, norm, speed, seconds, *ends = (float(value) for value in draws[row])
        values: dict[str, Record] = {
            "train": {"epoch": 0, "loss": loss, "accuracy": accuracy, "grad_norm": norm, "tokens_per_second": speed},
            "evaluation": {"loss": loss, "loss_interval": ends, "top1": accuracy, "n_masked": int(1e4 * seconds)},
            "checkpoint": {"path": "checkpoints/checkpoint-3"},
            "skipped": {"found": 'NaN in "layer_1" – einmal\n', "skipped_so_far": 1},
        }
        kinds = ("train", "train", last)
        records = [{"kind": kind, "step": step, **values[kind]} for step, kind in enumerate(kinds, 1)]
        made.append(b"".join(_line(record) for record in records))
    return made


def _line(record: Record) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _steps(path: Path) -> list[int]:
    """The steps of a log that must be whole; empty where it is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return [record["step"] for record in read_metrics(path)]
        except (DataError, UserWarning):
            return []


def _difference(found: list[Any], expected: list[Any]) -> str:
    steps = [step for step, _ in found]
    twice = sorted({step for step in steps if steps.count(step) > 1})
    missing = sorted({step for step, _ in expected} - set(steps))
    return f"steps twice {twice}, missing {missing}, other losses {not twice and not missing}. "


@contextmanager
def _full_disk(room: int, cut_fails: bool) -> Iterator[None]:
    """`os.write` takes `room` bytes more and then fails; so does `os.ftruncate`, if told."""
    write, truncate, left = os.write, os.ftruncate, [room]

    def full(descriptor: int, content: Any) -> int:
        if left[0] == 0 and len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, bytes(content[: left[0]]))
        left[0] -= written
        return written

    def failing(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    os.write, os.ftruncate = full, failing if cut_fails else truncate  # type: ignore[assignment]
    try:
        yield
    finally:
        os.write, os.ftruncate = write, truncate


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        "R21",
        "kill -9 while records are appended",
        "at most the last line is torn; it is dropped with a warning, and the next writer goes on",
        _kills_while_appending,
    ),
    Experiment(
        "R21",
        "the last line torn after each of its bytes",
        "every whole record is read, the torn one is dropped with a warning, and the next writer goes on",
        _tears_at_every_byte,
    ),
    Experiment(
        "R21",
        "the disk is full within a record",
        "an error, and no line that is not a record, even if the torn one cannot be cut off at once",
        _failing_writes,
    ),
    Experiment(
        "R21",
        "one bit of the log flipped",
        "a resume goes on; if a line is no record any more, it says so and keeps the log as it was",
        _flipped_bits,
    ),
    Experiment(
        "R21",
        "a training killed three times and resumed",
        "every step stands in the log once, in order, with the loss of an undisturbed run",
        _killed_and_resumed,
    ),
)
