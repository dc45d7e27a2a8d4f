"""Preparation that is stopped half-way: gone on with by the next process, to the same bytes, and by one at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert import file_locks
from mini_bert.data import unfinished
from mini_bert.data.shard_writer import ShardWriter
from mini_bert.data.shards import TokenStore
from mini_bert.data.unfinished import Journal, claimed, workplace_of
from mini_bert.errors import StorageError
from mini_bert.verification.reliability.promise import differences

DOCUMENTS = 20


def prepare(folder: Path) -> int:
    """Documents in several parts, a checkpoint every 13 parts; how many parts were added in this call."""
    added = 0
    with claimed(folder) as workplace:
        assert workplace is not None
        with ShardWriter(folder, workplace, shard_tokens=600) as writer:
            (first,) = writer.mark or (0,)
            for number in range(first, 3 * DOCUMENTS):
                draw = np.random.default_rng(number)
                lengths = draw.integers(1, 9, 5)
                ids = draw.integers(0, 500, lengths.sum()).astype(np.uint16)
                writer.add(f"document {number // 3}", ids, lengths, number.to_bytes(16, "little"))
                added += 1
                if number % 13 == 12:
                    writer.checkpoint((number + 1,), 100 * number)
            writer.finish({"vocab_size": 500})
    return added


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "store"
    prepare(folder)
    return folder


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, n: int) -> Callable[[], bool]:
    """Let the n-th call of a function fail, after half of what it should write; whether it came to that call."""
    real, calls = getattr(owner, name), 0

    def fails(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            if name == "write":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(owner, name, fails)
    return lambda: calls >= n


@pytest.mark.parametrize(
    ("owner", "name", "step"), [(unfinished._AppendedFile, "write", 23), (os, "fsync", 4), (os, "replace", 1)]
)
def test_a_disk_that_fills_at_any_call_costs_one_interval(
    tmp_path: Path, undisturbed: Path, owner: Any, name: str, step: int
) -> None:
    for n in range(1, 1000, step):
        folder = tmp_path / str(n) / "store"
        with pytest.MonkeyPatch.context() as patch:
            failed = failing(patch, owner, name, n)
            with suppress(StorageError):
                prepare(folder)
        if not failed():
            break
        if not (folder / "index.json").exists():  # it is there when only the names of folders were not synchronised
            kept = json.loads(record.read_bytes())["state"]["mark"] if (record := progress_of(folder)).exists() else [0]
            assert prepare(folder) == 3 * DOCUMENTS - kept[0]
        assert differences(folder, undisturbed) == []
        assert [path.name for path in folder.parent.iterdir()] == ["store"]
    assert n > step, "not one call failed"


def progress_of(folder: Path) -> Path:
    return workplace_of(folder) / "progress.json"


def stop_half_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "finish", None)
        with pytest.raises(TypeError):
            prepare(folder)


def test_what_was_altered_meanwhile_is_made_again(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of every file of the workplace, and each file cut short."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "store"
    stop_half_way(folder, monkeypatch)
    counted = json.loads(progress_of(folder).read_bytes())["files"]
    sizes = {progress_of(folder): 500} | {
        workplace_of(folder) / "files" / name: size for name, (size, _) in counted.items()
    }
    assert {"tokens-00000.bin", "names.txt", "hashes.bin", "progress.json"} <= {path.name for path in sizes}
    for path, size in sizes.items():
        for cut in (False, True):
            data = bytearray(path.read_bytes())
            place = int(draw.integers(size))
            if cut:
                data = data[:place]
            else:
                data[place] ^= 1 << int(draw.integers(8))
            path.write_bytes(data)
            assert prepare(folder) == 3 * DOCUMENTS, f"{path.name} was gone on with"
            assert differences(folder, undisturbed) == []
            for made in folder.iterdir():
                made.unlink()
            folder.rmdir()
            stop_half_way(folder, monkeypatch)
    assert prepare(folder) < 13
    assert differences(folder, undisturbed) == []


def test_what_is_behind_the_checkpoint_does_not_count(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not where it is longer than what the files become."""
    folder = tmp_path / "store"
    stop_half_way(folder, monkeypatch)
    for path in (workplace_of(folder) / "files").iterdir():
        path.write_bytes(path.read_bytes() + bytes(100_000))
    (workplace_of(folder) / "files" / "tokens-00099.bin").touch()
    assert prepare(folder) < 13
    assert differences(folder, undisturbed) == []


def test_another_source_is_not_gone_on_with(tmp_path: Path) -> None:
    for source, expected in (("a", ()), ("a", (5,)), ("b", ())):
        with ShardWriter(tmp_path / "store", source=source) as writer:
            assert writer.mark == expected
            writer.add("one", np.array([1], np.uint16), np.array([1]), b"")
            writer.checkpoint((5,), 1)


HOLD = """
import sys
from pathlib import Path
from mini_bert.data.unfinished import claimed
with claimed(Path(sys.argv[1])) as workplace:
    (workplace / "held").touch()
    print(workplace, flush=True)
    sys.stdin.read()
"""


def holder(target: Path) -> subprocess.Popen[str]:
    """A process that has claimed `target`, until its input is closed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(target)]
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() == str(workplace_of(target))
    return child


@pytest.mark.parametrize("death", ["killed", "done"])
def test_a_living_process_keeps_its_place_and_a_dead_one_does_not(tmp_path: Path, death: str) -> None:
    target = tmp_path / "store"
    with holder(target) as child:
        waited = 0

        def waiting() -> None:
            nonlocal waited
            waited += 1
            if waited == 3:
                child.kill() if death == "killed" else child.stdin.close()

        with claimed(target, waiting) as workplace:
            assert waited >= 3
            assert workplace == workplace_of(target)
            assert (workplace / "held").exists(), "what was left is gone on with"
            target.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_who_waited_takes_what_the_other_made(tmp_path: Path) -> None:
    target = tmp_path / "store"

    def waiting() -> None:
        target.touch()
        child.kill()

    with holder(target) as child, claimed(target, waiting) as workplace:
        assert workplace is None
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_nobody_worked_on_for_a_week_is_removed(tmp_path: Path) -> None:
    old, young, done = (tmp_path / name for name in ("old", "young", "done"))
    for target in (old, young, done):
        with claimed(target) as workplace, Journal(workplace, "x") as journal:
            journal.checkpoint({"a": 1})
    done.touch()
    eight_days_ago = (workplace.stat().st_mtime - 8 * 24 * 3600,) * 2
    for path in (*workplace_of(old).iterdir(), workplace_of(old)):
        os.utime(path, eight_days_ago)
    with holder(tmp_path / "held") as child:
        held = workplace_of(tmp_path / "held")
        for path in (*held.iterdir(), held):
            os.utime(path, eight_days_ago)
        with claimed(tmp_path / "new"):
            names = {path.name for path in tmp_path.iterdir()}
            assert names == {"done", ".unfinished-young", ".unfinished-new", ".unfinished-held"}
        child.kill()


def test_without_locks_everyone_works_alone(tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_locks, "fcntl", None)
    folder = tmp_path / "store"
    with claimed(folder) as mine, claimed(folder) as others:
        assert mine != others
        assert prepare(folder) == 3 * DOCUMENTS
    assert differences(folder, undisturbed) == []
    TokenStore(folder)
    stop_half_way(tmp_path / "other", monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "nobody could go on with what is left"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, unfinished._AppendedFile, "write", 30)
    with pytest.raises(StorageError, match=r"No space left on device.*start again, which goes on"):
        prepare(tmp_path / "store")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"), claimed(tmp_path / "file" / "store"):
        pass
