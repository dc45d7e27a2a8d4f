"""What does `kill -9` cost? Nothing but the time since the last checkpoint. (R4)

    python -m mini_bert.verification.reliability.kills '{"settings": …, "point": "before the rename", "occurrence": 3}'

A training that saves at each step is killed and resumed, and killed again, until it comes to its end: a chain. After
each kill every checkpoint loads or is refused by name, and the newest that loads is at most one step older than the
log; at the end of a chain stands the SHA-256 of the run that was never killed, and the same losses.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.errors import CheckpointError
from mini_bert.random_streams import RandomStream
from mini_bert.training.checkpoint import load_checkpoint
from mini_bert.training.checkpoint_folders import checkpoints, newest_verified, step_of
from mini_bert.verification.reliability import subject as subject_module
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import Subject, losses

_LONGEST = 0.1
"""Seconds from the first new checkpoint to the kill, at most."""
_AT_ONCE = 2


class _Met(NamedTuple):
    """A call as it is made, or right after it."""

    moment: str
    call: str
    path: str


def _is(moment: str, call: str, *parts: str) -> Callable[[_Met], bool]:
    """Whether it is this call, on a path that has one of these parts, and not on one that is being removed."""
    return lambda met: (
        met[:2] == (moment, call) and "retired" not in met.path and any(part in met.path for part in parts)
    )


_WRITTEN = ("model.safetensors", "optimizer.safetensors", "config.json", "training_state", "vocab", "tokenizer")
POINTS: dict[str, Callable[[_Met], bool]] = {
    "before the temporary folder": _is("before", "mkdir", ".tmp-"),
    "within a file": _is("after", "write", *_WRITTEN),
    "before the fsync of a file": _is("before", "fsync", *_WRITTEN),
    "after the fsync of a file": _is("after", "fsync", *_WRITTEN),
    "before the manifest": _is("before", "open", "manifest.json"),
    "after the manifest, before the fsync of the folder": _is("after", "fsync", "manifest.json"),
    "before the rename": _is("before", "rename", ".tmp-"),
    "after the rename": _is("after", "rename", ".tmp-"),
    "after the fsync of the parent": lambda met: met[:2] == ("after", "fsync") and met.path.endswith("checkpoints"),
    "before `latest` is replaced": _is("before", "replace", "latest"),
    "after `latest` is replaced": _is("after", "replace", "latest"),
    "during rotation": lambda met: met.call in {"rename", "unlink", "rmdir"} and "retired" in met.path,
}
"""Name → whether a call is at that point of the protocol."""


_EVERY = {"within a file": 37, "before the fsync of a file": 9, "after the fsync of a file": 9, "during rotation": 7}
"""Occurrences between two kills at one point, so that each is in another save and at another file; of others, 2."""

Kill = Callable[[Subject], "tuple[int, str] | None"]
"""Goes on with a run and kills it; returns exit code and errors, or None when it has been done often enough."""


def random_kills(scale: Scale, folder: Path) -> Outcome:
    """SIGKILL up to 100 ms after the first new checkpoint, 200 times."""
    trials = scale.of(full=200, quick=4)
    delays = itertools.cycle((_LONGEST * RandomStream(4, "kill").uniform(trials)[:, 0]).tolist())

    def kill_one(run: Subject) -> tuple[int, str]:
        before, process = _newest_step(run), run.start(resume="auto")
        with process:
            while process.poll() is None and _newest_step(run) <= before:
                time.sleep(0.002)
            time.sleep(next(delays))
            process.kill()
            errors = process.communicate()[1]
        return process.returncode, errors

    return _chains(scale, folder, kill_one, trials)


def kills_at_points(scale: Scale, folder: Path) -> Outcome:
    """SIGKILL at each of the 12 points of the protocol, at five different saves."""
    points, often = list(POINTS)[:: scale.of(full=1, quick=4)], scale.of(full=5, quick=1)
    trials = [(point, 1 + number * _EVERY.get(point, 2)) for number in range(often) for point in points]
    waiting = deque(trials)

    def kill_one(run: Subject) -> tuple[int, str] | None:
        try:
            point, occurrence = waiting.popleft()
        except IndexError:
            return None
        order = json.loads(run.command(resume="auto")[-1])
        words = json.dumps({**order, "point": point, "occurrence": occurrence})
        command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, words]
        done = subprocess.run(command, env=run.environment, capture_output=True, text=True, check=False, timeout=300)
        if not done.returncode:  # the run was at its end before the point was met so often
            waiting.append((point, occurrence))
        return done.returncode, f"{point}, {occurrence}: {done.stderr[-300:]}"

    return _chains(scale, folder, kill_one, len(trials))


def _chains(scale: Scale, folder: Path, kill_one: Kill, trials: int) -> Outcome:
    """Chains of kills, two at a time, until there were so many; each ends with a run to the end, and a comparison."""
    outcome, lost, counting = Outcome(), list[int](), threading.Lock()
    options = {"train__steps": scale.of(full=120, quick=30), "train__save_every": 1}
    end = Subject(folder, run__name="whole", **options).train()
    numbers, chains = itertools.count(), list[int]()

    def chain() -> None:
        number = next(numbers)
        run = Subject(folder, run__name=f"chain-{number}", **options)
        while len(lost) < trials and (ended := kill_one(run)) is not None:
            code, errors = ended
            if code == 0:  # it came to its end before the kill
                break
            steps, wrong = _look(run)
            with counting:
                lost.append(steps)
                outcome.count(code == -signal.SIGKILL and not wrong, f"chain {number}: {wrong or (code, errors)}")
                scale.told(min(len(lost), trials), trials)
        rest = run.train(resume="auto")
        same = (rest.result.get("sha256"), rest.result.get("losses")) == (end.result["sha256"], end.result["losses"])
        with counting:
            chains.append(number)
            outcome.count(rest.code == 0 and same, f"chain {number}: another end. {rest.errors[-300:]}")
            outcome.count(not list(run.run.rglob(".tmp-*")), f"chain {number}: something temporary is left")

    def chains_in_turn() -> None:
        while len(lost) < trials and len(chains) <= trials:
            chain()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(chains_in_turn) for _ in range(_AT_ONCE)]:
            done.result()
    outcome.measured = {"kills": len(lost), "chains": len(chains), "most_steps_lost": max(lost, default=0)}
    return outcome


def _look(run: Subject) -> tuple[int, str]:
    """Steps that are lost, and what does not hold."""
    refused = []
    for path in checkpoints(run.run):
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            refused.append(path)
            if str(path) not in str(error):
                return 0, f"{error} does not name {path}"
    newest = newest_verified(run.run).path
    logged = max((step for step, _ in losses(run.run)), default=0)
    steps = logged - (0 if newest is None else step_of(newest))
    return steps, f"{steps} steps are lost, refused: {refused}" if steps > 1 or (newest is None and logged > 1) else ""


def _newest_step(run: Subject) -> int:
    return max((step_of(path) for path in checkpoints(run.run)), default=0)


def kill_yourself_at(point: Callable[[_Met], bool], occurrence: int) -> None:
    """From now on this process kills itself when it comes to a point for the n-th time."""
    left, paths, retired = occurrence, dict[int, str](), set[str]()

    def meet(moment: str, call: str, path: str) -> None:
        nonlocal left
        if any(name in path for name in retired):
            path = f"{path} (retired)"
        if point(_Met(moment, call, path)):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched(call: str) -> Callable[..., Any]:
        healthy = getattr(os, call)

        def watch(*arguments: Any, **options: Any) -> Any:
            first = arguments[0]
            path = paths.get(first, "") if isinstance(first, int) else os.fspath(first)
            if options.get("dir_fd") is not None:
                path = f"{paths.get(options['dir_fd'], '')}/{path}"
            if call == "rename" and ".tmp-" in os.fspath(arguments[1]):
                retired.add(Path(arguments[1]).name)
                path = f"{path} -> {arguments[1]}"
            name = f"{path} -> {arguments[1]}" if call == "replace" else path
            meet("before", call, name)
            result = healthy(*arguments, **options)
            if call == "open":
                paths[result] = path
            meet("after", call, name)
            return result

        return watch

    for call in ("open", "mkdir", "write", "fsync", "rename", "replace", "unlink", "rmdir"):
        setattr(os, call, watched(call))


def main(words: Sequence[str]) -> int:
    """Train as the subject does, until the point is met."""
    order = json.loads(words[0])
    kill_yourself_at(POINTS[order["point"]], order["occurrence"])
    return subject_module.main(words)


EXPERIMENTS = (
    Experiment(
        "R4",
        "kill -9 at random moments",
        "every checkpoint loads or is refused, one step is lost at most, and the end has the same SHA-256 and losses",
        random_kills,
    ),
    Experiment(
        "R4",
        "kill -9 at each point of the protocol",
        "every checkpoint loads or is refused, one step is lost at most, and the end has the same SHA-256 and losses",
        kills_at_points,
    ),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
