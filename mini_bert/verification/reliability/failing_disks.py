"""What does a full, a read-only, a failing disk do to a run? Nothing to what was saved, and it is said. (R5)

    python -m mini_bert.verification.reliability.failing_disks FOLDER     in a mount namespace: see `real_disks`

Held means: the checkpoints that were there are as they were, byte for byte; the error is a StorageError that names the
path and the free space; the next start finds nothing temporary; and once the disk works again, saving does.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mini_bert.errors import MiniBertError, StorageError
from mini_bert.training.checkpoint_folders import checkpoints, newest_verified, remove_stale
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.small_state import change, save, small_state
from mini_bert.verification.reliability.subject import Subject

_CALLS = ("open", "write", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir")
_CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)
_SAID = re.compile(r"MB free in |other bytes than were written")


class _Run:
    """A run with two checkpoints, to which a third is saved on a disk that fails."""

    def __init__(self, run: Path) -> None:
        self.run, self.state = run, small_state()
        self.old: dict[str, dict[str, bytes]] = {}
        for step in (1, 2):
            self._keep(save(run, change(self.state, step)))

    def _keep(self, path: Path) -> None:
        self.old = {**dict(list(self.old.items())[-1:]), path.name: _content(path)}

    def save(self) -> Path:
        """Save the next step; raises as `save_checkpoint` does."""
        return save(self.run, change(self.state, 1 + max(int(name.split("-")[1]) for name in self.old)))

    def wrong(self, error: MiniBertError | None, expected: str = "") -> str:
        """What did not hold after a save that ended so, on a disk that works again; empty if all did."""
        if error is not None and not (isinstance(error, StorageError) and _SAID.search(str(error))):
            return f"{type(error).__name__}: {error}"
        if error is not None and (str(self.run) not in error.argument or expected not in str(error)):
            return f"it says {error}"
        unharmed = list(self.old.items())[-1:] if error is None else self.old.items()
        for name, content in unharmed:
            if _content(self.run / "checkpoints" / name) != content and not self._rotated(name):
                return f"{name} is not as it was"
        newest = newest_verified(self.run)
        if newest.path is None or newest.rejected:
            return f"the newest checkpoint: {newest}"
        remove_stale(self.run)
        left = [str(path) for path in self.run.rglob(".tmp-*")]
        if left:
            return f"left over: {left}"
        self._keep(self.save())
        return "" if len(checkpoints(self.run)) == 2 else f"kept: {[path.name for path in checkpoints(self.run)]}"

    def _rotated(self, name: str) -> bool:
        """Whether it went because the failing save had its checkpoint in place already, and two newer ones held."""
        return name == next(iter(self.old)) and len(checkpoints(self.run)) == 2


def every_call_fails(scale: Scale, folder: Path) -> Outcome:
    """The n-th call of each kind fails while a checkpoint is saved, for every n; then all from the n-th on."""
    outcome, run = Outcome(), _Run(folder)
    counts = {call: _count(run, call) for call in _CALLS}
    ways = [(False, code) for code in _CODES] + [(True, errno.EIO)]
    for number, call in enumerate(_CALLS):
        for for_good, code in ways[:1] if scale.quick else ways:
            for n in range(0, counts[call], scale.of(full=1, quick=1 + counts[call] // 4)):
                error = None
                with _failing(call, n, code, for_good=for_good) as met:
                    try:
                        run.save()
                    except MiniBertError as caught:
                        error = caught
                where = f"{call} number {n}{' and all after it' if for_good else ''}: {os.strerror(code)}"
                wrong = run.wrong(error, os.strerror(code)) if met() else "it was not called so often"
                outcome.count(not wrong, f"{where}: {wrong}")
        scale.told(number + 1, len(_CALLS))
    outcome.measured = {"calls_of_a_save": counts}
    return outcome


def file_size_limits(scale: Scale, folder: Path) -> Outcome:
    """RLIMIT_FSIZE from 0 to the size of the largest file: the kernel itself cuts a write short, then refuses it."""
    outcome, run = Outcome(), _Run(folder)
    largest = max(len(content) for content in run.old["checkpoint-2"].values())
    limits = [largest * part // 40 for part in range(0, 40, scale.of(full=1, quick=10))]
    for number, limit in enumerate(limits):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        error = None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            run.save()
        except MiniBertError as caught:
            error = caught
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        wrong = run.wrong(error, os.strerror(errno.EFBIG)) if error else "a limit that did not hold it up"
        outcome.count(not wrong, f"files of at most {limit} bytes: {wrong}")
        scale.told(number + 1, len(limits))
    outcome.measured = {"largest_file_bytes": largest}
    return outcome


def training_on_a_full_disk(scale: Scale, folder: Path) -> Outcome:
    """A training whose files may not grow large: it stops, or goes on to its end, as train.on_save_error says."""
    outcome, whole = Outcome(), Subject(folder)
    end = whole.train()
    largest = max(path.stat().st_size for path in (whole.run / "checkpoints" / "checkpoint-40").iterdir())
    limited = (sys.executable, "-c", _LIMITED, str(largest // 2))
    for number, (setting, last_step) in enumerate((("stop", 30), ("go-on", 40))):
        run = Subject(folder, run__name=setting, train__on_save_error=setting)
        run.train(stop_at=20)
        before = _content(run.run / "checkpoints" / "checkpoint-20")
        ended = run.train(resume="auto", launcher=limited)
        said = "StorageError" in ended.errors and os.strerror(errno.EFBIG) in ended.errors and "MB free" in ended.errors
        outcome.count(ended.code == 2 and said, f"{setting}: code {ended.code}, {ended.errors[-300:]!r}")
        steps = [step for step, _ in _losses(run)]
        outcome.count(steps == list(range(1, last_step + 1)), f"{setting}: it trained until {steps[-1:]}")
        same = _content(run.run / "checkpoints" / "checkpoint-20") == before
        outcome.count(same, f"{setting}: what was saved before is harmed")
        resumed = run.train(resume="auto")
        outcome.count(resumed.result.get("sha256") == end.result["sha256"], f"{setting}: another end")
        outcome.count(resumed.result.get("losses") == end.result["losses"], f"{setting}: other losses")
        outcome.count(not list(run.run.rglob(".tmp-*")), f"{setting}: something temporary is left")
        scale.told(number + 1, 2)
    return outcome


def real_disks(scale: Scale, folder: Path) -> Outcome:
    """A tmpfs of some pages or some inodes that fills up, and one that becomes read-only, mounted where nobody sees it.

    It needs user namespaces or root. Where neither is to be had nothing is tried, and `measured` says so.
    """
    outcome = Outcome()
    folder.mkdir(exist_ok=True)
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", __spec__.name if __spec__ else __name__]
    words = [*command, str(folder), *(["quick"] if scale.quick else [])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    except FileNotFoundError:
        done = None
    if done is None or "cannot mount" in done.stdout or "unshare failed" in done.stderr:
        outcome.measured = {"not_tried": "no mount namespace could be made"}
        return outcome
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    for held, otherwise in lines:
        outcome.count(held, otherwise)
    outcome.count(done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-300:]}")
    outcome.measured = {"disks": len(lines)}
    scale.told(1, 1)
    return outcome


_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def _on_mounted_disks(folder: Path, quick: bool) -> None:
    """In a mount namespace of our own: print `[held, otherwise]` for each disk."""
    disk = folder / "disk"
    disk.mkdir()
    if _mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)):
        print("cannot mount")
        return
    pages = _used_pages(disk)
    every = 7 if quick else 1
    for number in range(0, pages, every):
        _try_small(disk, f"size={4096 * (2 * pages + 1 + number)}", f"{number} of {pages} pages", fails=True)
    inodes = 12
    for number in range(0, inodes, 5 if quick else 1):
        _try_small(disk, f"size=3m,nr_inodes={2 * inodes + number}", f"{number} inodes for a third", fails=None)
    for name in ("run", "new"):
        _mount("-o", "remount,rw,size=3m,nr_inodes=1000", str(disk))
        run = _Run(disk / "read-only")
        _mount("-o", "remount,ro", str(disk))
        error = None
        try:
            run.save() if name == "run" else save(disk / "new", run.state)
        except MiniBertError as caught:
            error = caught
        _mount("-o", "remount,rw", str(disk))
        said = isinstance(error, StorageError) and "Read-only file system" in str(error) and "MB free" in str(error)
        wrong = run.wrong(error, "Read-only") if name == "run" else ""
        print(json.dumps([said and not wrong, f"read-only: {error!r} {wrong}"]))
        _empty(disk)


def _try_small(disk: Path, options: str, what: str, fails: bool | None) -> None:
    """Two checkpoints fit; the third finds the disk full."""
    _mount("-o", "remount,size=3m,nr_inodes=1000", str(disk))
    run = _Run(disk / "small")
    refused = _mount("-o", f"remount,{options}", str(disk))
    error = None
    try:
        run.save()
    except MiniBertError as caught:
        error = caught
    _mount("-o", "remount,size=3m,nr_inodes=1000", str(disk))
    wrong = "the disk could not be made so small" if refused else run.wrong(error, "No space left" if error else "")
    if fails and not refused and error is None:
        wrong = "the disk was not full"
    print(json.dumps([not wrong, f"a disk with {what}: {wrong}"]), flush=True)
    _empty(disk)


def _used_pages(disk: Path) -> int:
    """Pages that a checkpoint takes; a page more is for `latest`."""
    state = small_state()
    save(disk / "size", change(state, 1))
    size = sum(-(-path.stat().st_size // 4096) for path in (disk / "size" / "checkpoints" / "checkpoint-1").iterdir())
    _empty(disk)
    return size


def _empty(disk: Path) -> None:
    import shutil

    for path in disk.iterdir():
        shutil.rmtree(path)


def _mount(*words: str) -> int:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def _losses(subject: Subject) -> list[tuple[int, float | None]]:
    from mini_bert.verification.reliability.subject import losses

    return losses(subject.run)


def _count(run: _Run, call: str) -> int:
    """How often a save makes that call."""
    healthy: Callable[..., Any] = getattr(os, call)
    counted = mock.Mock(side_effect=healthy)
    with mock.patch.object(os, call, counted):
        run._keep(run.save())
    return counted.call_count


@contextmanager
def _failing(call: str, n: int, code: int, *, for_good: bool) -> Iterator[Callable[[], bool]]:
    """Let the n-th such call fail, or all from there on; yields whether it came to that."""
    healthy: Callable[..., Any] = getattr(os, call)
    made = 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        if made - 1 == n or (for_good and made - 1 > n):
            raise OSError(code, os.strerror(code))
        return healthy(*arguments, **options)

    with mock.patch.object(os, call, fail):
        yield lambda: made > n


def main(words: Sequence[str]) -> int:
    """Try real disks in the mount namespace that this process is in."""
    _on_mounted_disks(Path(words[0]), quick=len(words) > 1)
    return 0


EXPERIMENTS = (
    Experiment(
        "R5",
        "each call to the disk fails while a checkpoint is saved",
        "older checkpoints as they were, path and free space said, nothing temporary left, the next save works",
        every_call_fails,
    ),
    Experiment(
        "R5",
        "files may not grow (RLIMIT_FSIZE)",
        "older checkpoints as they were, path and free space said, nothing temporary left, the next save works",
        file_size_limits,
    ),
    Experiment(
        "R5",
        "a training on a disk that takes no more",
        "it stops or goes on as train.on_save_error says, and a resume ends with the same SHA-256 and losses",
        training_on_a_full_disk,
    ),
    Experiment(
        "R5",
        "disks (tmpfs) that fill up page by page, run out of inodes, become read-only",
        "older checkpoints as they were, path and free space said, nothing temporary left, the next save works",
        real_disks,
    ),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
