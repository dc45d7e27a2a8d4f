"""`python-docs`: the documentation text that stands on every machine that can run this. Nothing is imported.

Source files are parsed; docstrings of modules, classes and functions are taken, NumPy's `add_newdoc` texts, and the
topics of `pydoc_data`. A document is a module (each topic is one of its own). Text is made plain for reading: no
indentation, no reST marks, no underlines, no tables, and no doctests or code examples, which are not prose. A
docstring that stood in an earlier module is left out, so that no held-out document holds a copy. Test suites, bundled
third-party code and IDLE are left out.

`python-docs` is the standard library, the core dependencies and what these require; `python-docs-all` is the standard
library and every installed distribution.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mini_bert.data.cache import written_whole
from mini_bert.data.readers import Passage
from mini_bert.data.sources import cache_home

CORE = ("numpy", "safetensors", "pydantic", "pyyaml", "rich", "tyro", "threadpoolctl", "pooch")
_FORMAT = "python-docs 2"
_LEFT_OUT = frozenset(
    ("test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "_vendor", "_bundled")
)


class Module(NamedTuple):
    """A source file that is harvested, under the name that it is imported by."""

    name: str
    path: Path


def find_modules(everything: bool = False) -> list[Module]:
    """The modules to read, sorted by name."""
    library = Path(sysconfig.get_path("stdlib"))
    modules = {_module_name(path.relative_to(library)): path for path in sorted(library.rglob("*.py"))}
    for distribution in _distributions(everything):
        for file in distribution.files or ():
            if file.suffix == ".py" and ".." not in file.parts:
                modules.setdefault(_module_name(Path(file)), Path(str(distribution.locate_file(file))))
    return [
        Module(name, path)
        for name, path in sorted(modules.items())
        if not _LEFT_OUT.intersection(name.split(".")) and path.is_file()
    ]


def versions() -> dict[str, str]:
    """Versions of what `python-docs` is made of."""
    return {"python": sys.version.split()[0], **{d.metadata["Name"]: d.version for d in _distributions(False)}}


def harvest(everything: bool = False) -> tuple[Path, str]:
    """The harvested text as a JSON-lines file in the cache, and the hash of the sources it was made from.

    The file is made once for each state of the sources.
    """
    modules = find_modules(everything)
    digest = hashlib.sha256(_FORMAT.encode())
    sources = []
    for module in modules:
        source = module.path.read_bytes()
        digest.update(module.name.encode() + hashlib.sha256(source).digest())
        sources.append(source)
    key = digest.hexdigest()
    path = cache_home() / "harvest" / f"python-docs-{key[:32]}.jsonl"
    if not path.is_file():
        with written_whole(path) as file:
            for passage in _documents(modules, sources):
                file.write(json.dumps([passage.name, passage.paragraphs]) + "\n")
    return path, key


def _distributions(everything: bool) -> list[metadata.Distribution]:
    """Installed distributions by name: all but ourselves and the installers, or the core and what it requires."""
    found = {
        _normal(distribution.metadata["Name"]): distribution
        for distribution in metadata.distributions()
        if distribution.metadata["Name"]
    }
    wanted = set(found) - {"mini-bert", "pip", "setuptools"} if everything else set[str]()
    waiting = [] if everything else list(CORE)
    while waiting:
        name = waiting.pop()
        if name in found and name not in wanted:
            wanted.add(name)
            requirements = (text for text in found[name].requires or () if "extra ==" not in text)
            waiting += [_normal(match[0]) for text in requirements if (match := re.match(r"[\w.-]+", text))]
    return [found[name] for name in sorted(wanted)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _documents(modules: list[Module], sources: list[bytes]) -> Iterator[Passage]:
    seen: set[str] = set()
    for module, source in zip(modules, sources, strict=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if module.name == "pydoc_data.topics":
            for topic, text in _topics(tree).items():
                if paragraphs := plain_paragraphs(text):
                    yield Passage(f"{module.name}.{topic}", paragraphs)
            continue
        paragraphs = []
        for docstring in _docstrings(tree):
            text = inspect.cleandoc(docstring)
            if text not in seen:
                seen.add(text)
                paragraphs += plain_paragraphs(text)
        if paragraphs:
            yield Passage(module.name, paragraphs)


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Docstrings and `add_newdoc` texts in the order of the source."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        waiting += reversed(list(ast.iter_child_nodes(node)))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if docstring := ast.get_docstring(node, clean=False):
                yield docstring
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "add_newdoc":
            for argument in node.args[2:]:
                yield from (
                    part.value
                    for part in ast.walk(argument)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and " " in part.value
                )


def _topics(tree: ast.Module) -> dict[str, str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "topics":
            return dict(sorted(ast.literal_eval(node.value).items()))
    return {}


_ROLE = re.compile(r":[a-zA-Z][\w:+-]*:`~?([^`<]+)(?: <[^`>]*>)?`_{0,2}")
_MARKED = re.compile(r"(`{1,2}|\*{1,2})(?=\S)(.+?)(?<=\S)\1_{0,2}")
_DIRECTIVE = re.compile(r"^\.\. *(?:[\w:+-]+::|_|\[)")
_RULE = re.compile(r"^[\s=\-~^#*+|`\"'.:_]*$")


def plain_paragraphs(docstring: str) -> list[str]:
    """The prose of a docstring: paragraphs on one line each, without code, tables and marks.

    >>> plain_paragraphs("Return :func:`x`.\\n\\n>>> f(1)\\n2\\n\\nNotes\\n-----\\nUse ``y`` with\\ncare.")
    ['Return x.', 'Notes', 'Use y with care.']
    """
    paragraphs = []
    held: list[str] = []
    code_indent: int | None = None
    in_doctest = False
    for line in [*docstring.expandtabs().split("\n"), ""]:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        in_doctest = bool(text) and (in_doctest or text.startswith(">>>"))
        if code_indent is not None and text and indent <= code_indent:
            code_indent = None
        skipped = in_doctest or (code_indent is not None and bool(text))
        breaks = skipped or bool(_RULE.match(text) or _DIRECTIVE.match(text))
        if held and (breaks or indent < _indent_of(held)):
            paragraphs.append(_plain(" ".join(part.strip() for part in held)))
            held = []
        if not breaks:
            held.append(line)
        if text.endswith("::") and not skipped:
            code_indent = indent
    return [paragraph for paragraph in paragraphs if sum(map(str.isalpha, paragraph)) >= 3]


def _indent_of(lines: list[str]) -> int:
    return len(lines[-1]) - len(lines[-1].lstrip())


def _plain(text: str) -> str:
    text = _ROLE.sub(r"\1", text)
    text = _MARKED.sub(r"\2", text)
    return text[:-1] if text.endswith("::") else text
