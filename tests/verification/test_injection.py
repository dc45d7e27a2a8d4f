"""Edited text gets into the program by way of the import, and nowhere else."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.verification.injection import PACKAGE, Edit, edited_sources, inject

NAME = "made_for_injection"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three modules that can be imported; import hooks and modules are as before when the test ends."""
    folder = tmp_path / NAME
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("SIGN = 1\n")
    (folder / "inner" / "__init__.py").write_text("")
    (folder / "inner" / "sums.py").write_text("def add(x, y):\n    total = x + y\n    return total\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]


SUMS = "inner/sums.py"
MINUS = Edit(SUMS, "x + y", "x - y")


def test_an_edited_source_is_the_text_with_the_replacement(package: Path) -> None:
    assert edited_sources([MINUS], package) == {SUMS: "def add(x, y):\n    total = x - y\n    return total\n"}


def test_edits_of_one_file_are_made_one_after_the_other(package: Path) -> None:
    sources = edited_sources([MINUS, Edit(SUMS, "x - y", "x * y"), Edit("__init__.py", "1", "-1")], package)
    assert "x * y" in sources[SUMS]
    assert sources["__init__.py"] == "SIGN = -1\n"


@pytest.mark.parametrize(
    ("edit", "got"),
    [
        (Edit(SUMS, "x / y", ""), "0 places"),
        (Edit(SUMS, "total", ""), "2 places"),
        (Edit("inner/products.py", "x", "y"), "inner/products.py"),
        (Edit("inner", "x", "y"), "inner"),
    ],
    ids=["not there", "twice", "no such file", "a folder"],
)
def test_an_edit_that_does_not_apply_is_refused(package: Path, edit: Edit, got: str) -> None:
    with pytest.raises(InvalidInputError, match=got):
        edited_sources([edit], package)


def test_what_is_imported_is_the_edited_text_and_the_file_is_as_it_was(package: Path) -> None:
    before = {path: path.read_bytes() for path in package.rglob("*.py")}
    inject(edited_sources([MINUS], package), NAME)
    sums = importlib.import_module(f"{NAME}.inner.sums")
    assert sums.add(5, 3) == 2
    assert "x - y" in sums.__loader__.get_source(sums.__name__)
    assert {path: path.read_bytes() for path in package.rglob("*.py")} == before
    assert not list(package.rglob("sums*.pyc"))


def test_a_byte_code_file_from_before_is_not_used(package: Path) -> None:
    assert importlib.import_module(f"{NAME}.inner.sums").add(5, 3) == 8
    del sys.modules[f"{NAME}.inner.sums"]
    inject(edited_sources([MINUS], package), NAME)
    assert importlib.import_module(f"{NAME}.inner.sums").add(5, 3) == 2


def test_a_package_itself_can_be_edited(package: Path) -> None:
    inject(edited_sources([Edit("__init__.py", "1", "-1")], package), NAME)
    assert importlib.import_module(NAME).SIGN == -1
    assert importlib.import_module(f"{NAME}.inner.sums").add(5, 3) == 8


def test_too_late_is_an_error_and_changes_nothing(package: Path) -> None:
    importlib.import_module(f"{NAME}.inner.sums")
    hooks = list(sys.meta_path)
    with pytest.raises(InvalidInputError, match=rf"{NAME}\.inner\.sums, which is imported already"):
        inject(edited_sources([MINUS], package), NAME)
    assert sys.meta_path == hooks


def test_a_line_that_fails_is_shown_where_it_stands(package: Path) -> None:
    """The traceback names the real file, with the line of the edited text."""
    inject(edited_sources([Edit(SUMS, "x + y", "x + undefined_name")], package), NAME)
    with pytest.raises(NameError, match="undefined_name") as caught:
        importlib.import_module(f"{NAME}.inner.sums").add(1, 2)
    last = caught.traceback[-1]
    assert Path(last.path) == package / SUMS
    assert last.lineno == 1


def test_an_injection_reaches_this_process_alone() -> None:
    code = (
        "from mini_bert.verification.injection import Edit, edited_sources, inject\n"
        "inject(edited_sources([Edit('ops/relu.py', 'x.real > 0', 'x.real < 0')]))\n"
        "import numpy as np\n"
        "from mini_bert.ops import relu\n"
        "print(relu.forward(np.array([-2.0, 3.0]))[0].tolist())\n"
    )
    plain = code.replace("inject(", "(lambda sources: None)(")
    for source, expected in ((code, "[-2.0, 0.0]"), (plain, "[-0.0, 3.0]")):
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
    assert "x.real > 0" in (PACKAGE / "ops" / "relu.py").read_text()
