"""Does a damaged checkpoint ever load? Every file cut, lengthened, flipped, swapped, removed. (R6)

A run has two checkpoints, and the newer one is damaged. Held means: each way to it is closed with an error that names
the checkpoint, and the run's newest checkpoint is the older one, with the reason why the newer was passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from mini_bert.errors import CheckpointError
from mini_bert.interop import manifest
from mini_bert.random_streams import RandomStream
from mini_bert.training.checkpoint import load_checkpoint
from mini_bert.training.checkpoint_folders import newest_verified
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.small_state import change, save, small_state
from mini_bert.verification.reliability.subject import STEPS, Subject

_HEADER = 500
"""Bytes at the beginning of a file, into which half of the flips go."""


class _Pair:
    """A run with a good checkpoint and a newer one that is damaged again and again."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.good = save(run, small_state(1))
        self.newer = save(run, change(small_state(), 2))
        self.whole = {path.name: path.read_bytes() for path in sorted(self.newer.iterdir())}

    def write(self, name: str, content: bytes | None) -> None:
        """Give a file another content; None removes it."""
        if content is None:
            (self.newer / name).unlink()
        else:
            (self.newer / name).write_bytes(content)

    def try_damage(self, outcome: Outcome, what: str, damage: dict[str, bytes | None]) -> None:
        """Damage files, count whether nothing loads, and heal them; a damage that changes nothing is not counted."""
        damage = {name: content for name, content in damage.items() if content != self.whole[name]}
        if not damage:
            return
        for name, content in damage.items():
            self.write(name, content)
        outcome.count(self._refused(), f"{what}: it loads, or the older one does not")
        for name in damage:
            self.write(name, self.whole[name])

    def _refused(self) -> bool:
        newest = newest_verified(self.run)
        fell_back = newest.path == self.good and len(newest.rejected) == 1 and str(self.newer) in newest.rejected[0]
        return fell_back and all(_raises(way, self.newer) for way in (manifest.verify, load_checkpoint))


def cut_lengthened_swapped(scale: Scale, folder: Path) -> Outcome:
    """Truncate at 0, 1, 7, 8, 25 %, 50 % and -1, append a byte, remove, swap two files, give a wrong sha256."""
    outcome, pair = Outcome(), _Pair(folder)
    for name, content in pair.whole.items():
        size = len(content)
        for length in (0, 1, 7, 8, size // 4, size // 2, size - 1):
            pair.try_damage(outcome, f"{name} cut to {length} of {size} bytes", {name: content[:length]})
        pair.try_damage(outcome, f"{name} with a byte more", {name: content + b"\0"})
        pair.try_damage(outcome, f"{name} removed", {name: None})
        pair.try_damage(outcome, f"{name} all zero", {name: bytes(size)})
        older = (pair.good / name).read_bytes()
        pair.try_damage(outcome, f"{name} of the checkpoint before", {name: older})
        if name != manifest.FILE_NAME:
            told = json.loads(pair.whole[manifest.FILE_NAME])
            told["files"][name]["sha256"] = hashlib.sha256(b"another file").hexdigest()
            pair.try_damage(outcome, f"another sha256 of {name}", {manifest.FILE_NAME: _text(told)})
            pair.try_damage(outcome, f"another sha256 of {name}, signed", {manifest.FILE_NAME: _signed(told)})
    for one, other in combinations(pair.whole, 2):
        swapped: dict[str, bytes | None] = {one: pair.whole[other], other: pair.whole[one]}
        pair.try_damage(outcome, f"{one} and {other} swapped", swapped)
    pair.try_damage(outcome, "all removed", dict.fromkeys(pair.whole))
    outcome.measured = {"files": len(pair.whole)}
    scale.told(outcome.tried, outcome.tried)
    return outcome


def flipped_bits(scale: Scale, folder: Path) -> Outcome:
    """Flip one random bit of one file: half of the flips in its first 500 bytes, half anywhere."""
    outcome, pair = Outcome(), _Pair(folder)
    flips = scale.of(full=1000, quick=12)
    for number, (name, content) in enumerate(pair.whole.items()):
        drawn = RandomStream(6, f"flips/{name}").uniform(flips, 2)
        for flip, (where, which) in enumerate(drawn):
            reach = min(_HEADER, len(content)) if flip % 2 else len(content)
            position, bit = int(where * reach), int(which * 8)
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            pair.try_damage(outcome, f"bit {bit} of byte {position} of {name}", {name: bytes(damaged)})
        scale.told(number + 1, len(pair.whole))
    outcome.measured = {"files": len(pair.whole), "flips_a_file": flips}
    return outcome


def resume_past_damage(scale: Scale, folder: Path) -> Outcome:
    """Stop a training, damage its newest checkpoint, and let it go on by itself: from the one before, saying why."""
    outcome, whole = Outcome(), Subject(folder)
    end = whole.train()
    stopped = Subject(folder, run__name="stopped", train__save_every=5)
    stopped.train(stop_at=23)
    names = sorted(path.name for path in (stopped.run / "checkpoints" / "checkpoint-23").iterdir())
    trials = [(name, how) for name in names for how in (_flip_middle, _halve, _remove)]
    trials = trials[4:5] if scale.quick else trials
    for number, (name, how) in enumerate(trials):
        subject = Subject(folder, run__name=f"damaged-{number}", train__save_every=5)
        shutil.copytree(stopped.run, subject.run)
        how(subject.run / "checkpoints" / "checkpoint-23" / name)
        ended = subject.train(resume="auto")
        said = f"checkpoint-23/{name}" in ended.errors and "Going on from" in ended.errors
        said = said and "checkpoint-20" in ended.errors
        outcome.count(said, f"{how.__name__} {name}: no word of it, but {ended.errors[-300:]!r}")
        same = ended.result.get("sha256") == end.result["sha256"] and ended.result["losses"] == end.result["losses"]
        outcome.count(same, f"{how.__name__} {name}: another end")
        scale.told(number + 1, len(trials) + 1)
    subject = Subject(folder, run__name="all-damaged", train__save_every=5)
    shutil.copytree(stopped.run, subject.run)
    for path in (subject.run / "checkpoints").iterdir():
        _halve(path / "optimizer.safetensors")
    ended = subject.train(resume="auto")
    refused = ended.code == 2 and "no checkpoint that holds" in ended.errors and "Traceback" not in ended.errors
    outcome.count(refused, f"all checkpoints damaged: code {ended.code}, {ended.errors[-300:]!r}")
    outcome.measured = {"steps": STEPS}
    return outcome


def _raises(way: Callable[[Path], object], path: Path) -> bool:
    try:
        way(path)
    except CheckpointError as error:
        return str(path) in str(error)
    return False


def _text(told: dict[str, object]) -> bytes:
    return (json.dumps(told, sort_keys=True, indent=1) + "\n").encode()


def _signed(told: dict[str, object]) -> bytes:
    """A manifest whose own hash is right: only the files themselves can show that it lies."""
    body = {name: value for name, value in told.items() if name != "manifest_sha256"}
    return _text({**body, "manifest_sha256": hashlib.sha256(_text(body)).hexdigest()})


def _flip_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 16]))


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _remove(path: Path) -> None:
    path.unlink()


EXPERIMENTS = (
    Experiment(
        "R6",
        "every file cut, lengthened, emptied, swapped, removed, exchanged, or with a wrong sha256",
        "nothing damaged loads; the run's newest checkpoint is the one before, and the reason is said",
        cut_lengthened_swapped,
    ),
    Experiment(
        "R6",
        "1,000 single bits of every file flipped",
        "nothing damaged loads; the run's newest checkpoint is the one before, and the reason is said",
        flipped_bits,
    ),
    Experiment(
        "R6",
        "resume a run whose newest checkpoint is damaged",
        "it goes on from the one before, says why, and ends with the same SHA-256 and losses",
        resume_past_damage,
    ),
)
