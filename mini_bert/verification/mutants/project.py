"""What is mutated, and which tests have to notice? One written table: file → its tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mini_bert.errors import InvalidInputError, nearest
from mini_bert.verification.injection import PACKAGE
from mini_bert.verification.mutants.mutant import Mutant, mutants_of


class Project(NamedTuple):
    """A package and the tests of each of its files; paths of tests are those from the root."""

    root: Path
    """The folder that pytest runs in."""
    package: str
    """Its folder under the root, and its name."""
    tests: Mapping[str, tuple[str, ...]]
    """File, or folder for all files in it, within the package → patterns of test files, in the order to run."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are mutated, by their paths within the package."""
        base = self.root / self.package
        paths = (base / name for name in self.tests)
        found = {path for place in paths for path in (place.glob("*.py") if place.is_dir() else (place,))}
        return tuple(sorted(path.relative_to(base).as_posix() for path in found))

    def mutants(self, file: str) -> tuple[Mutant, ...]:
        """All mutants of a file.

        Raises:
            InvalidInputError: it is none of those that are mutated.
        """
        if file not in self.files:
            raise InvalidInputError(
                "file", got=repr(file), expected="a file that is mutated", advice=nearest(file, self.files)
            )
        return mutants_of(self.source(file), file)

    def source(self, file: str) -> str:
        """The text of a file as it stands."""
        return (self.root / self.package / file).read_text(encoding="utf-8")

    def tests_of(self, file: str) -> tuple[str, ...]:
        """Test files of a file in the order to run: its own first; `{name}` in the table stands for the file's name."""
        entries = self.tests.get(file) or self.tests[str(Path(file).parent)]
        found: dict[str, None] = {}
        for entry in entries:
            for path in sorted(self.root.glob(entry.format(name=Path(file).stem))):
                found[path.relative_to(self.root).as_posix()] = None
        return tuple(found)


_MODEL = (
    "tests/model/test_model_reading.py",
    "tests/model/test_model_parameters.py",
    "tests/model/test_model_inputs.py",
    "tests/model/test_model_masked_rows.py",
    "tests/model/test_model_taps.py",
    "tests/model/test_model_public_face.py",
    "tests/model/test_model_properties.py",
    "tests/model/test_*.py",
    "tests/verification/test_oracle_bert.py",
)

_FOLDERS = (
    "tests/interop/test_model_folder.py",
    "tests/interop/test_foreign_folders.py",
    "tests/interop/test_precision.py",
    "tests/interop/test_hub.py",
)

MINI_BERT = Project(
    PACKAGE.parent,
    PACKAGE.name,
    {
        "ops": ("tests/ops/test_op_{name}.py", "tests/ops/test_*.py"),
        "ops/embedding.py": ("tests/ops/test_op_embedding_linear.py", "tests/ops/test_*.py"),
        "ops/linear.py": ("tests/ops/test_op_embedding_linear.py", "tests/ops/test_*.py"),
        "ops/erf.py": ("tests/ops/test_op_erf_gelu.py", "tests/ops/test_*.py"),
        "ops/gelu.py": ("tests/ops/test_op_erf_gelu.py", "tests/ops/test_*.py"),
        "ops/contract.py": ("tests/ops/test_*.py", "tests/optim/test_*.py"),
        "model": _MODEL,
        "model/bert.py": (*_MODEL, *_FOLDERS),
        "model/pretrained.py": (*_FOLDERS, *_MODEL),
        "optim": ("tests/optim/test_*.py", "tests/training/test_step*.py"),
        "data/masking.py": ("tests/data/test_data_masking*.py",),
    },
)
"""The tests of a file are those of its folder, its own before the others; of the model also its oracle, of what
reads and writes folders also those of folders, of the optimiser also the training step."""
