"""What can a disk hold after a power cut? Everything that was flushed, and any part of what was not.

`recording` notes each change that a process makes below a folder. `Disk` does them again, one by one, and knows after
each what is surely on the disk: the bytes of a file from its last `fsync` on, the names in a folder from the folder's
last `fsync` on. The rest is up to chance: a write that was not flushed is there, or half, or as zeros, or not; a name
that was not flushed is made, moved or removed, or not, each by itself. So the model is stricter than a real file
system, which orders some of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

Tree = dict[str, Any]
"""Name → bytes of a file, or the tree of a folder."""


class Change(NamedTuple):
    """One change: the call, the path from the folder, and what the call was given beside it."""

    call: str
    path: str
    given: Any = None
    """Of `write` the bytes, of `rename` the new path, of `create` whether it is a folder."""


@contextmanager
def recording(folder: Path) -> Iterator[list[Change]]:
    """Note every change below `folder` that this process makes through `os`."""
    changes: list[Change] = []
    opened: dict[int, str] = {}
    healthy: dict[str, Callable[..., Any]] = {
        name: getattr(os, name)
        for name in ("open", "write", "fsync", "close", "mkdir", "rename", "replace", "unlink", "rmdir")
    }
    root = os.path.abspath(folder)  # noqa: PTH100

    def within(path: Any, dir_fd: int | None = None) -> str | None:
        text = os.fspath(path)
        if dir_fd is not None:
            return None if dir_fd not in opened else str(Path(opened[dir_fd]) / text)
        text = os.path.abspath(text)  # noqa: PTH100
        return os.path.relpath(text, root) if text.startswith(root) else None

    def note(call: str, path: str | None, given: Any = None) -> None:
        if path is not None:
            changes.append(Change(call, path, given))

    def opening(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        inside = within(path, dir_fd)
        fresh = inside is not None and not (folder / inside).exists()
        descriptor: int = healthy["open"](path, flags, mode, dir_fd=dir_fd)
        opened.pop(descriptor, None)
        if inside is not None:
            opened[descriptor] = inside
            if fresh:
                note("create", inside)
            elif flags & os.O_TRUNC:
                note("truncate", inside)
        return descriptor

    def writing(descriptor: int, content: Any) -> int:
        written: int = healthy["write"](descriptor, content)
        note("write", opened.get(descriptor), bytes(content[:written]))
        return written

    def flushing(descriptor: int) -> None:
        healthy["fsync"](descriptor)
        note("fsync", opened.get(descriptor))

    def closing(descriptor: int) -> None:
        opened.pop(descriptor, None)
        healthy["close"](descriptor)

    def making(path: Any, *options: Any, **more: Any) -> None:
        healthy["mkdir"](path, *options, **more)
        note("create", within(path), True)

    def moving(call: str) -> Callable[[Any, Any], None]:
        def move(source: Any, target: Any) -> None:
            healthy[call](source, target)
            note("rename", within(source), within(target))

        return move

    def removing(call: str) -> Callable[..., None]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            healthy[call](path, dir_fd=dir_fd)
            note("remove", within(path, dir_fd))

        return remove

    noted = {"open": opening, "write": writing, "fsync": flushing, "close": closing, "mkdir": making}
    noted |= {call: moving(call) for call in ("rename", "replace")}
    noted |= {call: removing(call) for call in ("unlink", "rmdir")}
    with ExitStack() as patches:
        for name, function in noted.items():
            patches.enter_context(mock.patch.object(os, name, function))
        yield changes


@dataclass
class _File:
    flushed: bytes = b""
    now: bytes = b""


@dataclass
class _Folder:
    flushed: dict[str, _File | _Folder] = field(default_factory=dict)
    now: dict[str, _File | _Folder] = field(default_factory=dict)
    waiting: list[dict[str, _File | _Folder | None]] = field(default_factory=list)
    """What is done to the names since the last flush, oldest first: each has its new meaning, None for none."""

    def rename(self, names: dict[str, _File | _Folder | None]) -> None:
        self.waiting.append(names)
        _apply(self.now, names)


class Disk:
    """A folder, change after change."""

    def __init__(self) -> None:
        self.root = _Folder()

    def do(self, change: Change) -> None:
        """The next change.

        A move from one folder to another would be two changes here, and none was needed so far.
        """
        node: _File | _Folder
        if change.call == "fsync":
            node = self._at(change.path)
            if isinstance(node, _File):
                node.flushed = node.now
            else:
                node.flushed, node.waiting = dict(node.now), []
            return
        parent, name = self._at(os.path.dirname(change.path)), os.path.basename(change.path)  # noqa: PTH119, PTH120
        assert isinstance(parent, _Folder)
        if change.call == "create":
            parent.rename({name: _Folder() if change.given else _File()})
        elif change.call == "remove":
            parent.rename({name: None})
        elif change.call == "rename":
            assert os.path.dirname(change.given) == os.path.dirname(change.path)  # noqa: PTH120
            parent.rename({name: None, os.path.basename(change.given): parent.now[name]})  # noqa: PTH119
        else:
            file = parent.now[name]
            assert isinstance(file, _File)
            file.now = file.now + change.given if change.call == "write" else b""

    def _at(self, path: str) -> _File | _Folder:
        node: _File | _Folder = self.root
        for name in Path(path).parts:
            assert isinstance(node, _Folder)
            node = node.now[name]
        return node

    def tree(self) -> Tree:
        """All as the process sees it."""
        return _tree(self.root, lambda folder: folder.now, lambda file: file.now)

    def after_power_cut(self, chance: Callable[[int], int]) -> Tree:
        """What may be there after a power cut; `chance(n)` gives a number from 0 to n - 1 for each thing unflushed.

        Always 0: only what was flushed. Always 1: names are as they should be, and bytes that were not flushed zeros.
        """

        def names(folder: _Folder) -> dict[str, _File | _Folder]:
            there = dict(folder.flushed)
            for change in folder.waiting:
                if chance(2):
                    _apply(there, change)
            return there

        def content(file: _File) -> bytes:
            if file.now == file.flushed:
                return file.now
            half = file.now[: len(file.now) // 2]
            return (file.flushed, bytes(len(file.now)), half, half + bytes(len(file.now) - len(half)), file.now)[
                chance(5)
            ]

        return _tree(self.root, names, content)


def _apply(names: dict[str, _File | _Folder], change: dict[str, _File | _Folder | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _tree(
    folder: _Folder, names: Callable[[_Folder], dict[str, _File | _Folder]], content: Callable[[_File], bytes]
) -> Tree:
    return {
        name: _tree(node, names, content) if isinstance(node, _Folder) else content(node)
        for name, node in names(folder).items()
    }


def read_tree(folder: Path) -> Tree:
    """What is really there."""
    return {path.name: read_tree(path) if path.is_dir() else path.read_bytes() for path in folder.iterdir()}


def write_tree(folder: Path, tree: Tree) -> None:
    """Make it real."""
    folder.mkdir()
    for name, node in tree.items():
        if isinstance(node, bytes):
            (folder / name).write_bytes(node)
        else:
            write_tree(folder / name, node)
