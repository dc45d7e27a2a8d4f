"""Does Ctrl-C, or a scheduler's SIGTERM, cost anything? Not a step, and the exit code says what came. (R20)

    python -m mini_bert.verification.reliability.signals '{"words": […], "moment": "save", "signal": 15, "at": 7}'

`mini-bert pretrain` gets a signal in the middle of a step, of an evaluation, of a save, or at any moment. Held means:
it ends with 130 or 143, what it was at is saved, and a resume ends with the SHA-256 and the losses of a run that
nobody disturbed.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.random_streams import RandomStream
from mini_bert.training.checkpoint_folders import newest_verified, step_of
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import STEPS, Ended, Subject, losses

_EVERY = 3
"""Steps between evaluations, and between saves."""
_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_LONGEST = 200
"""Milliseconds from the first checkpoint to a signal at any moment, at most."""
_AT_ONCE = 2
_SETTINGS = {"train__save_every": _EVERY, "train__evaluate_every": _EVERY}


class _Trial(NamedTuple):
    moment: str
    number: signal.Signals
    at: int
    """Step; of a signal at any moment, milliseconds after the first checkpoint."""


def signals_within(scale: Scale, folder: Path) -> Outcome:
    """SIGINT and SIGTERM in a step, in an evaluation, in a save; and a second Ctrl-C while the first one is heeded."""
    steps = (6, 9, 15, 24, 36)[:: scale.of(full=1, quick=4)]
    trials = [_Trial(moment, number, at) for number in _CODES for moment in _MOMENTS for at in steps]
    trials += [_Trial("twice", signal.SIGINT, at) for at in steps]
    return _all(scale, folder, trials[:: scale.of(full=1, quick=3)], _within)


def signals_anywhere(scale: Scale, folder: Path) -> Outcome:
    """SIGINT or SIGTERM from outside, up to 200 ms after the first checkpoint."""
    trials = scale.of(full=20, quick=2)
    drawn = RandomStream(20, "signals").uniform(trials)[:, 0]
    moments = [int(_LONGEST * (number + share) / trials) for number, share in enumerate(drawn)]
    kinds = [_Trial("anywhere", list(_CODES)[number % 2], at) for number, at in enumerate(moments)]
    return _all(scale, folder, kinds, _from_outside)


def _all(scale: Scale, folder: Path, trials: Sequence[_Trial], disturb: Callable[[Subject, _Trial], Ended]) -> Outcome:
    outcome, stopped = Outcome(), 0
    whole = Subject(folder, run__name="whole", **_SETTINGS)
    end = whole.train().result

    def one(trial: _Trial) -> None:
        nonlocal stopped
        where = f"{trial.number.name} {trial.moment} {trial.at}"
        run = Subject(folder, run__name=where.replace(" ", "-"), **_SETTINGS)
        ended = disturb(run, trial)
        logged = max((step for step, _ in losses(run.run)), default=0)
        newest = newest_verified(run.run).path
        saved = 0 if newest is None else step_of(newest)
        trained = saved == STEPS and trial.moment == "anywhere"  # it came too late: all was saved
        stopped += not trained
        in_time = ended.code == _CODES[trial.number] or (trained and ended.code in {0, -trial.number})
        outcome.count(in_time, f"{where}: code {ended.code}, {ended.errors[-300:]!r}")
        lost = logged - saved
        heeded = trial.moment in {"anywhere", "twice"} or saved == trial.at
        outcome.count(lost <= (_EVERY if trial.moment == "twice" else 0) and heeded, f"{where}: {saved} of {logged}")
        rest = run.train(resume="auto").result
        same = (rest.get("sha256"), rest.get("losses")) == (end["sha256"], end["losses"])
        outcome.count(same and not list(run.run.rglob(".tmp-*")), f"{where}: another end, or something is left")
        scale.told(outcome.tried // 3, len(trials))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(one, trials))
    outcome.measured = {"runs_stopped": stopped}
    return outcome


def _words(run: Subject) -> list[str]:
    """`pretrain` and its words, for the settings of a subject."""
    words = ["pretrain", "--config", "training/debugging"]
    for name, value in run.settings.items():
        told = value if isinstance(value, list) else [value]
        words += [word for one in told for word in (f"--{name.replace('_', '-')}", str(one))]
    return words


def _within(run: Subject, trial: _Trial) -> Ended:
    order = {"words": _words(run), "moment": trial.moment, "signal": int(trial.number), "at": trial.at}
    module = __spec__.name if __spec__ else __name__
    command = [sys.executable, "-m", module, json.dumps(order)]
    done = subprocess.run(command, env=run.environment, capture_output=True, text=True, check=False, timeout=300)
    return Ended(done.returncode, {}, done.stderr)


def _from_outside(run: Subject, trial: _Trial) -> Ended:
    command = [sys.executable, "-m", "mini_bert", *_words(run)]
    with subprocess.Popen(
        command, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and newest_verified(run.run).path is None:
            time.sleep(0.005)
        time.sleep(1e-3 * trial.at)
        process.send_signal(trial.number)
        errors = process.communicate(timeout=300)[1]
    return Ended(process.returncode, {}, errors)


def _in_step(send: Callable[[int], None]) -> None:
    from mini_bert.training import loop

    ordinary = loop.training_step

    def step(state: Any, *arguments: Any, **options: Any) -> Any:
        send(state.step + 1)
        return ordinary(state, *arguments, **options)

    loop.training_step = step


def _in_evaluation(send: Callable[[int], None]) -> None:
    from mini_bert.evaluation import masked_lm

    ordinary, done = masked_lm.evaluate_masked_lm, [-_EVERY]

    def evaluate(*arguments: Any, **options: Any) -> Any:
        done[0] += _EVERY
        send(done[0])
        return ordinary(*arguments, **options)

    masked_lm.evaluate_masked_lm = evaluate


def _in_save(send: Callable[[int], None]) -> None:
    ordinary_open, ordinary, files = os.open, os.fsync, dict[int, Path]()

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = ordinary_open(path, *arguments, **options)
        files[descriptor] = Path(path)
        return descriptor

    def fsync(descriptor: int) -> None:
        file = files[descriptor]
        if file.name == "optimizer.safetensors":
            send(int(file.parent.name.split("-")[1]))
        ordinary(descriptor)

    os.open, os.fsync = opened, fsync


_MOMENTS: dict[str, Callable[[Callable[[int], None]], None]] = {
    "step": _in_step,
    "evaluation": _in_evaluation,
    "save": _in_save,
}


def main(words: Sequence[str]) -> int:
    """`mini-bert` with a signal to itself, once it is at that moment of step `at`."""
    order = json.loads(words[0])

    def send(step: int) -> None:
        if step == order["at"]:
            os.kill(os.getpid(), order["signal"])

    if order["moment"] == "twice":
        _in_step(send)
        _in_save(send)
    else:
        _MOMENTS[order["moment"]](send)
    sys.argv = ["mini-bert", *order["words"]]
    runpy.run_module("mini_bert", run_name="__main__")  # as a program: this layer does not import the command line
    return 0


EXPERIMENTS = (
    Experiment(
        "R20",
        "SIGINT and SIGTERM within a step, an evaluation, a save",
        "saved at that step, exit code 130 or 143, and the end has the same SHA-256 and losses",
        signals_within,
    ),
    Experiment(
        "R20",
        "SIGINT and SIGTERM at any moment",
        "not a step is lost, exit code 130 or 143, and the end has the same SHA-256 and losses",
        signals_anywhere,
    ),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
