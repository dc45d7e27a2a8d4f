"""How does a wrong line get into the running program? Into its source, before the module is imported.

An edit replaces one piece of text that stands exactly once in a file of this package. Nothing on the disk changes: an
import hook hands the edited text to the compiler, in this process alone. So a bug is shown, and injected, as the
difference that one would read in a review, and no code under test has a switch for it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mini_bert.errors import InvalidInputError

PACKAGE = Path(__file__).resolve().parents[1]


class Edit(NamedTuple):
    """One replacement in one file."""

    path: str
    """Within the package: `ops/attention.py`."""
    old: str
    """Text that stands there exactly once."""
    new: str


def edited_sources(edits: Iterable[Edit], package: Path = PACKAGE) -> dict[str, str]:
    """Path → text of each edited file; edits of one file are made one after the other.

    Raises:
        InvalidInputError: there is no such file, or it does not hold the old text exactly once.
    """
    sources: dict[str, str] = {}
    for edit in edits:
        path = package / edit.path
        if edit.path not in sources:
            if not path.is_file():
                raise InvalidInputError("edit.path", got=edit.path, expected=f"a file of {package.name}")
            sources[edit.path] = path.read_text(encoding="utf-8")
        found = sources[edit.path].count(edit.old)
        if found != 1:
            raise InvalidInputError(
                f"edit.old in {edit.path}", got=f"{found} places with {edit.old!r}", expected="exactly one"
            )
        sources[edit.path] = sources[edit.path].replace(edit.old, edit.new)
    return sources


def inject(sources: Mapping[str, str], package: str = "mini_bert") -> None:
    """From now on, in this process, `import` compiles these texts in the place of the files; see `edited_sources`.

    Raises:
        InvalidInputError: one of the modules is imported already, so that the injection would come too late.
    """
    by_module = {_module_name(path, package): source for path, source in sources.items()}
    late = sorted(by_module.keys() & sys.modules.keys())
    if late:
        raise InvalidInputError(
            "sources", got=f"{late[0]}, which is imported already", expected="modules that nobody has imported yet"
        )
    sys.meta_path.insert(0, _Finder(by_module))


def _module_name(path: str, package: str) -> str:
    parts = [package, *Path(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the edited modules where they always are, and has them loaded from the edited text."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._sources:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _EditedSource(fullname, spec.origin, self._sources[fullname])
        return spec


class _EditedSource(importlib.machinery.SourceFileLoader):
    """Compiles the edited text, and never reads or writes a cached byte code file."""

    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._source = source

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self._source.encode(), self.path)

    def get_source(self, fullname: str) -> str:
        return self._source
