"""What happens when a hostile file is opened? Tried in a process that can be spared, with little memory and time.

    python -m mini_bert.verification.reliability.hostile_files.trial '{"what": "spoiled", "kinds": ["vocab.txt"], …}'

Prints a line of JSON for each kind of file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mini_bert.errors import MiniBertError
from mini_bert.verification.reliability.hostile_files.readers import READERS, Reader

MOST_BYTES = 200 * 2**20
"""By which memory may grow while all files of a kind are opened."""
MOST_SECONDS = 1.0
"""Of the processor, for one file."""
_PATIENCE = 30.0
"""Seconds after which a file that is still being opened has hung."""
_LONGEST_MESSAGE = 2000

SPECIALS = ("a pipe", "an endless device", "a folder", "a link to itself", "a link to nowhere", "a link to a folder")
"""What may stand where a file should."""


@dataclass
class Found:
    """What came of the files of one kind."""

    kind: str
    tried: int = 0
    opened: int = 0
    """How many were read as if they were good."""
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    slowest: str = ""
    growth_bytes: int = 0


def examine(kind: str, cases: Iterable[tuple[str, bytes | str]], folder: Path, *, refuse: bool) -> Found:
    """Open every case, each in the place of the good file.

    Args:
        kind: of `READERS`.
        cases: name and content, or one of `SPECIALS`.
        folder: an empty one.
        refuse: whether opening one is a failure. Anything but a result or an error of ours always is.
    """
    reader, found = READERS[kind], Found(kind)
    folder.mkdir(parents=True)
    try:
        for good in reader.surround(folder):  # also loads whatever opening needs
            _put(reader, folder, reader.seal(folder, good))
            reader.open(folder)
    except Exception as error:
        found.failures.append(f"{kind}, a good file: {type(error).__name__}: {error}")
        return found
    with _little_memory(found), _in(folder.parent):
        for name, content in cases:
            _put(reader, folder, reader.seal(folder, content) if isinstance(content, bytes) else content)
            _open(reader, folder, name, found, refuse)
            if (folder.parent / "canary").exists():
                found.failures.append(f"{kind}, {name}: it has run something")
                (folder.parent / "canary").unlink()
    return found


def _open(reader: Reader, folder: Path, name: str, found: Found, refuse: bool) -> None:
    wrong, before, begin = "", _new_peak(), time.process_time()
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        reader.open(folder)
        found.opened += 1
        wrong = "it was opened" if refuse else ""
    except MiniBertError as error:
        if not str(error).isprintable() or len(str(error)) > _LONGEST_MESSAGE:
            wrong = f"its error is no line of text: {ascii(str(error))[-100:]}"
    except _HangError:
        wrong = "it hung"
    except Exception as error:
        wrong = f"{type(error).__name__}: {ascii(str(error))[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.process_time() - begin
    found.growth_bytes = max(found.growth_bytes, _status("VmHWM") - before)
    if seconds > found.slowest_seconds:
        found.slowest_seconds, found.slowest = seconds, name
    if seconds > MOST_SECONDS:
        wrong = wrong or f"it took {seconds:.1f} s"
    found.tried += 1
    if wrong:
        found.failures.append(f"{found.kind}, {name}: {wrong}")


def _put(reader: Reader, folder: Path, content: bytes | str) -> None:
    path = folder / reader.file
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    elif isinstance(content, str) or not path.is_file() or path.is_symlink():
        path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "a pipe":
        os.mkfifo(path)
    elif content == "a folder":
        path.mkdir()
    else:
        targets = {"an endless device": "/dev/zero", "a link to itself": path, "a link to a folder": folder}
        path.symlink_to(targets.get(content, folder / "nowhere"))


class _HangError(BaseException):
    """Not to be caught by those who catch errors."""


def _hung(*_: object) -> None:
    raise _HangError


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Work in a folder: where something is run, it leaves its canary there."""
    before = Path.cwd()
    os.chdir(folder)
    handler = signal.signal(signal.SIGALRM, _hung)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        os.chdir(before)


@contextmanager
def _little_memory(found: Found) -> Iterator[None]:
    """Resident memory that is not given back counts as well; more than twice what is allowed cannot be asked for."""
    import resource

    begin = _new_peak()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + 2 * MOST_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        found.growth_bytes = max(found.growth_bytes, _status("VmRSS") - begin)
        if found.growth_bytes > MOST_BYTES:
            found.failures.append(f"{found.kind}: memory grew by {found.growth_bytes / 1e6:.0f} MB")


def _new_peak() -> int:
    """Resident bytes now, from which the peak is counted anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """Bytes, as Linux counts them for this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def cases_of(kind: str, good: bytes) -> dict[str, bytes]:
    """The hostile contents that are made by hand for a kind of file."""
    from mini_bert.verification.reliability.hostile_files import archives, pickles, tensors, texts

    if kind == "configuration":
        return texts.yaml_files()
    if kind == "model.safetensors":
        return texts.safetensors_files() | texts.array_files()
    if kind == "pytorch_model.bin":
        makers = (pickles.calls, pickles.floods, pickles.sequences, tensors.tensors, archives.archives)
        made = {name: hostile.content for make in makers for name, hostile in make().items()}
        return made | texts.array_files()
    if kind in ("tokens", "vocab.txt"):
        return texts.array_files()
    return {} if kind in ("metrics.jsonl", "run.log") else texts.json_files(good)


def main(words: Sequence[str]) -> int:
    """Do what the one word, a JSON object, says."""
    from mini_bert.verification.reliability.hostile_files.mutations import spoiled

    order: Mapping[str, Any] = json.loads(words[0])
    for number, kind in enumerate(order["kinds"]):
        folder = Path(order["folder"], str(number), "files")
        folder.mkdir(parents=True)
        good = READERS[kind].surround(folder)
        shutil.rmtree(folder)
        if order["what"] == "spoiled":
            numbers = range(order["first"], order["first"] + order["count"])
            cases: Iterable[tuple[str, bytes | str]] = ((str(n), spoiled(good, kind, n)) for n in numbers)
        elif order["what"] == "made":
            cases = cases_of(kind, good[0]).items()
        else:
            cases = [(name, name) for name in SPECIALS]
        found = examine(kind, cases, folder, refuse=order["what"] == "made")
        shutil.rmtree(folder)
        print(json.dumps(asdict(found)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
