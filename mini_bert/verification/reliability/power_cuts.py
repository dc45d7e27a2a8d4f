"""Does a power cut cost more than the checkpoint that was being written? (R4)

A kill leaves what was written in the kernel's hands; a power cut takes what was not flushed. All changes of some saves
are recorded, the power is cut after each, and each disk that may be left is made and looked at. Held means: what is
found as the newest checkpoint has numbers that were saved under its name; and when the next start has tidied up, it is
no older than the newest whose saving had returned.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mini_bert.errors import MiniBertError
from mini_bert.random_streams import RandomStream
from mini_bert.training.checkpoint import load_checkpoint, model_and_optimizer_sha256
from mini_bert.training.checkpoint_folders import newest_verified, remove_stale, step_of
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.recorded_disk import Change, Disk, Tree, read_tree, recording, write_tree
from mini_bert.verification.reliability.small_state import change, save, small_state


class _Saves(NamedTuple):
    changes: list[Change]
    """All that was done to the disk."""
    returned: list[tuple[int, int]]
    """Number of changes until a save returned, and its step."""
    numbers: dict[int, set[str]]
    """Step → hashes of the states that were saved under it."""


def power_cuts(scale: Scale, folder: Path) -> Outcome:
    """Cut the power after each change that saving makes, and look at what may be left."""
    outcome, saves = Outcome(), _record(folder / "recorded")
    cuts = _moments(saves.changes)[:: scale.of(full=1, quick=13)]
    worlds, disk, done, met = scale.of(full=14, quick=3), Disk(), 0, Counter[str]()
    for number, cut in enumerate(cuts):
        for entry in saves.changes[done:cut]:
            disk.do(entry)
        done = cut
        promised = max((step for end, step in saves.returned if end <= cut), default=None)
        seen: list[Tree] = []
        for world in range(worlds):
            tree = disk.after_power_cut(_chance(world, cut))
            if tree in seen:
                continue
            seen.append(tree)
            wrong = _look(folder / "world", tree, promised, saves.numbers, met)
            last = saves.changes[cut - 1]
            outcome.count(not wrong, f"cut after change {cut} ({last.call} {last.path}), world {world}: {wrong}")
        scale.told(number + 1, len(cuts))
    for entry in saves.changes[done:]:
        disk.do(entry)
    outcome.count(disk.tree() == read_tree(folder / "recorded"), "not every change was recorded")
    outcome.measured = {"cuts": len(cuts), "changes": len(saves.changes), **met}
    return outcome


def _record(folder: Path) -> _Saves:
    """Save as a training does: a new folder, the best, older ones that go, one step twice with other numbers."""
    folder.mkdir()
    state, returned, numbers = small_state(), [], {}
    with recording(folder) as changes:
        for step, best in ((1, None), (2, 2), (3, 2), (4, 2), (4, 4), (5, 4)):
            save(folder / "runs" / "run", change(state, step), best=best)
            returned.append((len(changes), step))
            numbers.setdefault(step, set()).add(model_and_optimizer_sha256(state))
    return _Saves(changes, returned, numbers)


def _moments(changes: list[Change]) -> list[int]:
    """How many changes are done when the power fails: all numbers, of the writes to a file only the first and last."""
    return [
        number
        for number in range(1, len(changes) + 1)
        if not all(
            0 <= at < len(changes) and changes[at].call == "write" and changes[at].path == changes[number - 1].path
            for at in (number - 2, number - 1, number)
        )
    ]


def _chance(world: int, cut: int) -> Callable[[int], int]:
    """In the first worlds, nothing unflushed is there; all names are; all is. In the others, each thing by chance."""
    if world < 3:
        return lambda choices: min((0, 1, 4)[world], choices - 1)
    drawn = iter(RandomStream(4, f"power cut/{world}", cut).uniform(500)[:, 0])
    return lambda choices: int(next(drawn) * choices)


def _look(folder: Path, tree: Tree, promised: int | None, numbers: dict[int, set[str]], met: Counter[str]) -> str:
    """What does not hold in a world; empty if all does."""
    write_tree(folder, tree)
    run = folder / "runs" / "run"
    try:
        for when in ("as it was left", "tidied up"):
            newest = newest_verified(run)
            met["damaged_and_refused"] += len(newest.rejected)
            step = -1 if newest.path is None else step_of(newest.path)
            if newest.path is not None:
                loaded = model_and_optimizer_sha256(load_checkpoint(newest.path).state)
                if loaded not in numbers[step]:
                    return f"{when}, {step} has numbers that nobody saved"
            if when == "as it was left":
                remove_stale(run)
        if promised is not None and step < promised:
            return f"{step} is the newest that holds, though {promised} was saved: {newest.rejected}"
        if list(folder.rglob(".tmp-*")):
            return "something temporary is left"
    except MiniBertError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder)
    return ""


EXPERIMENTS = (
    Experiment(
        "R4",
        "the power is cut after each change that saving makes",
        "the newest checkpoint whose saving had returned loads, or a newer one; nothing damaged does",
        power_cuts,
    ),
)
