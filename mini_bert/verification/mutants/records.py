"""What has been tried already? A file of one JSON line a result, so that a hunt that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.verification.mutants.mutant import Mutant
from mini_bert.verification.mutants.project import Project


class Record(NamedTuple):
    """One mutant, and how its tests went."""

    key: str
    """Hash of the mutated source and of the tests it was tried with: the same key, the same result."""
    name: str
    path: str
    line: int
    operator: str
    before: str
    after: str
    survived: bool
    how: str
    """`test`, `import`, `timeout` or `crash` of a killed one; `passed`."""
    by: str
    seconds: float
    """Processor time."""


def key_of(project: Project, mutant: Mutant) -> str:
    """Hash of a mutated file and of everything in the folders of its tests that tests are made of."""
    digest = blake2b(f"{mutant.path}\0{mutant.source}".encode(), digest_size=12)
    tests = project.tests_of(mutant.path)
    folders = {(project.root / test).parent for test in tests}
    helpers = {path for folder in folders for path in folder.glob("*.py") if not path.name.startswith("test_")}
    for path in sorted({*helpers, *(project.root / test for test in tests)}):
        digest.update(path.relative_to(project.root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Records:
    """The file of results: read once, then appended to."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line that was torn by a kill is passed over."""
        self._path = path
        self.by_key: dict[str, Record] = {}
        self.latest: dict[str, Record] = {}
        """The latest record of each mutant by its name, with whatever tests it was tried."""
        for record in self._read():
            self._remember(record)

    def _read(self) -> Iterator[Record]:
        if not self._path.exists():
            return
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                fields: dict[str, Any] = json.loads(line)
                yield Record(**fields)
            except (ValueError, TypeError):
                continue

    def _remember(self, record: Record) -> None:
        self.by_key[record.key] = record
        self.latest[record.name] = record

    def add(self, record: Record) -> None:
        """Append a result; on the disk when this returns."""
        self._remember(record)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record._asdict(), ensure_ascii=False) + "\n")
