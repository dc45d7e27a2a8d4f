"""What does it take to certify every gradient, and what is written down of it?

`certify` makes all checks and yields their evidence one by one, so that a screen can show it as it comes in;
`Certificate` is what stays: the evidence with versions, date, and the hashes of the sources that it speaks of.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

from mini_bert.atomic_files import replace_file, storage_errors
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import DataError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import parameter_table
from mini_bert.verification import conditions, identities, op_checks, torch_oracle, zeros
from mini_bert.verification.evidence import CENTRAL, COMPLEX, DERIVATIVES, FLOAT32, TORCH, Evidence, guarded
from mini_bert.verification.model_checks import check_condition, check_tensors

FORMAT = 1

DEFAULT_MODEL, SMALL_MODEL, YOUR_MODEL, CONDITIONS = "default model", "small model", "your model", "conditions"
PARTS = (
    op_checks.PART,
    DEFAULT_MODEL,
    YOUR_MODEL,
    SMALL_MODEL,
    CONDITIONS,
    identities.PART,
    zeros.PART,
)
"""The tables of a certificate, in the order in which they are read."""

PACKAGE = Path(__file__).resolve().parents[1]

AT_FULL_SIZE = (COMPLEX, CENTRAL, TORCH, FLOAT32)
"""Oracles that follow a model of any size: loops over single numbers do not."""


def certify(
    *, ops: Sequence[str] | None = None, model: MiniBERT | None = None, quick: bool = False, seed: int = 0
) -> Iterator[Evidence]:
    """Make all checks; with `ops` or `model`, only those of these operations or of this model.

    Args:
        ops: names of operations; None: all, unless a model is given.
        model: one's own, in any dtype; it is checked in float64, with the weights that it has.
        quick: fewer entries of each tensor, shorter batches and fewer conditions: seconds instead of minutes.
        seed: of inputs, directions and entries of the differences.

    Raises:
        InvalidInputError: there is no such operation.
    """
    everything = ops is None and model is None
    chosen = op_checks.chosen_operations(ops) if everything or ops is not None else {}
    return _checks(chosen, model, everything, 2 if quick else 20, quick, seed)


def _checks(
    chosen: Mapping[str, ModuleType], model: MiniBERT | None, everything: bool, entries: int, quick: bool, seed: int
) -> Iterator[Evidence]:
    if chosen:
        yield from op_checks.check_operations(chosen, seed)
        yield from identities.check_operation_identities(chosen)
    if model is not None:
        yield from _guarded(YOUR_MODEL, lambda: _of_own_model(model, quick, seed))
    if everything:
        yield from _guarded(SMALL_MODEL, lambda: _of_default_models(entries, quick, seed))


def _of_own_model(model: MiniBERT, quick: bool, seed: int) -> Iterator[Evidence]:
    own = conditions.own_scenario(model, quick=quick)
    entries = 2 if quick else conditions.entries_for(model)
    yield from check_tensors(YOUR_MODEL, own, AT_FULL_SIZE, entries=entries, seed=seed)
    yield from identities.check_model_identities([own])
    yield from zeros.check_zeros(own, seed)


def _of_default_models(entries: int, quick: bool, seed: int) -> Iterator[Evidence]:
    small, default = conditions.small_scenario(quick=quick), conditions.default_scenario(quick=quick)
    scenarios = list(conditions.conditions(quick=quick))
    yield from check_tensors(SMALL_MODEL, small, entries=entries, seed=seed)
    oracles = tuple(oracle for oracle in DERIVATIVES if not (quick and oracle is CENTRAL))
    for scenario in scenarios:
        yield from check_condition(CONDITIONS, scenario, oracles, entries=entries, seed=seed)
    yield from check_tensors(DEFAULT_MODEL, default, AT_FULL_SIZE, entries=1 if quick else entries, seed=seed)
    yield from identities.check_model_identities([small, default, *scenarios])
    for scenario in (default, small, *scenarios):
        yield from zeros.check_zeros(scenario, seed)


def _guarded(part: str, rows: Callable[[], Iterator[Evidence]]) -> Iterator[Evidence]:
    """Where a model cannot even be made, or a pass fails outside of any check, that is evidence too."""
    return guarded(part, "the model", "", COMPLEX, COMPLEX.model_threshold, rows)


@dataclass(frozen=True)
class Certificate:
    """Everything that a certificate says."""

    evidence: tuple[Evidence, ...]
    scope: str
    """What was looked at: `everything`, or the operations and the model that were named."""
    command: str
    """What to type to have it made again."""
    date: str
    """UTC, to the second."""
    seconds: float
    versions: dict[str, str]
    sources: dict[str, str]
    """Path within the package → sha256, of all that was checked."""
    models: dict[str, str]
    """Part → the model that its tensors belong to, in words."""

    @property
    def failures(self) -> list[Evidence]:
        """What speaks against it."""
        return [row for row in self.evidence if not row.passed]

    @property
    def absent(self) -> list[Evidence]:
        """What nobody looked at."""
        return [row for row in self.evidence if row.absent]

    @property
    def passed(self) -> bool:
        """Whether something was looked at, and nothing speaks against it."""
        return len(self.absent) < len(self.evidence) and not self.failures

    @property
    def verdict(self) -> str:
        """PASS or FAIL, and of how much."""
        looked = [row for row in self.evidence if not row.absent]
        compared = sum(row.compared for row in looked)
        if self.failures:
            return f"FAIL: {len(self.failures)} of {len(looked):,} checks"
        return f"PASS: {len(looked):,} checks, {compared:,} numbers compared"

    def of(self, part: str) -> list[Evidence]:
        """The rows of one table."""
        return [row for row in self.evidence if row.part == part]

    def to_json(self) -> str:
        """As text: one line a piece of evidence."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        head = {"format": FORMAT, "passed": self.passed, **fields}
        del head["evidence"]
        text = json.dumps(head, indent=1, ensure_ascii=False)
        rows = ",\n  ".join(json.dumps(_plain(row), ensure_ascii=False) for row in self.evidence)
        return f'{text[:-2]},\n "evidence": [\n  {rows}\n ]\n}}\n'

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "certificate.json") -> Certificate:
        """What `to_json` wrote.

        Raises:
            DataError: the text is no certificate of this format.
        """
        try:
            fields = json.loads(text)
            if fields.pop("format") != FORMAT:
                raise ValueError("another format")
            fields.pop("passed")
            rows = [Evidence(**{**row, "error": _number(row["error"])}) for row in fields.pop("evidence")]
            return cls(tuple(rows), **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(source, got=f"{type(error).__name__}: {error}", expected="a certificate") from error

    def write(self, folder: str | Path) -> list[Path]:
        """Write `certificate.md`, and `certificate.json` beside it, or in `results/` where there is such a folder.

        Raises:
            StorageError: the folder cannot be made or written.
        """
        from mini_bert.verification.certificate_page import page

        folder = Path(folder)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        results = folder / "results" if (folder / "results").is_dir() else folder
        contents = {folder / "certificate.md": page(self), results / "certificate.json": self.to_json()}
        for path, text in contents.items():
            replace_file(path, text.encode())
        return list(contents)


def _plain(row: Evidence) -> dict[str, Any]:
    """JSON has neither NaN nor infinity."""
    error = row.error
    return {**row._asdict(), "error": error if error is None or math.isfinite(error) else str(error)}


def _number(error: float | str | None) -> float | None:
    return float(error) if isinstance(error, str) else error


def certificate_of(
    evidence: Iterable[Evidence], *, scope: str, command: str, model: MiniBERT | None = None
) -> Certificate:
    """Collect evidence as it comes in, and write down when, with what and about which sources it was made."""
    started = time.monotonic()
    rows = tuple(evidence)
    configs = {DEFAULT_MODEL: ModelConfig(), SMALL_MODEL: ModelConfig(**conditions.SMALL)}
    if model is not None:
        configs[YOUR_MODEL] = model.config
    return Certificate(
        rows,
        scope,
        command,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        round(time.monotonic() - started, 1),
        versions(),
        source_hashes(),
        {part: _in_words(config) for part, config in configs.items() if any(row.part == part for row in rows)},
    )


def _in_words(config: ModelConfig) -> str:
    """`L=3 H=192 A=4 I=768 T=64 V=8192, gelu, heads mlm, 2,966,144 parameters`."""
    size = sum(math.prod(row.shape) for row in parameter_table(config))
    return (
        f"L={config.num_hidden_layers} H={config.hidden_size} A={config.num_attention_heads} "
        f"I={config.intermediate_size} T={config.max_position_embeddings} V={config.vocab_size}, {config.hidden_act}, "
        f"{'heads ' + ', '.join(config.heads) if config.heads else 'no head'}, {size:,} parameters"
    )


def versions() -> dict[str, str]:
    """What took part."""
    import numpy

    from mini_bert import __version__
    from mini_bert.machine import blas_kernel

    return {
        "mini-bert": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "BLAS kernel": blas_kernel(),
        "torch": torch_oracle.version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def source_hashes(package: Path = PACKAGE) -> dict[str, str]:
    """sha256 of every file of the operations and the model, and of the two that these build on."""
    paths = [*sorted((package / "ops").glob("*.py")), *sorted((package / "model").glob("*.py"))]
    paths += [package / "batch.py", package / "random_streams.py"]
    return {path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
