"""How does a certificate read? As tables, for a terminal, a log, and the page `certificate.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from mini_bert.reports.table import NOTHING, Table
from mini_bert.verification import identities, op_checks, zeros
from mini_bert.verification.certificate import CONDITIONS, DEFAULT_MODEL, PARTS, SMALL_MODEL, YOUR_MODEL, Certificate
from mini_bert.verification.evidence import DERIVATIVES, IDENTITY, ORACLES, Evidence, worst_evidence

FAILED = "✗"
"""Stands behind an error that is too large."""


class _Part(NamedTuple):
    heading: str
    caption: str
    about: str
    first_column: str = "tensor"


_PARTS = {
    op_checks.PART: _Part(
        "Operations",
        "Worst error over all cases, of the output and of the gradient of every input",
        "Every file of `mini_bert/ops` with a forward and a backward pass, on all of its cases, all entries.",
        "operation",
    ),
    DEFAULT_MODEL: _Part(
        "The default model",
        "Worst error of every parameter tensor",
        "Two rows with padding, two segments, dropout on, the summed masked-language-model loss: {model}. Complex step "
        "and central differences look along one random direction and at 20 entries of each tensor (`--quick`: at 1), "
        "the others at all entries.",
    ),
    YOUR_MODEL: _Part(
        "Your model",
        "Worst error of every parameter tensor",
        "The weights as they are, in float64, with all its heads at once: {model}.",
    ),
    SMALL_MODEL: _Part(
        "The small model",
        "Worst error of every parameter tensor",
        "A model that loops over single numbers can follow, otherwise as above: {model}.",
    ),
    CONDITIONS: _Part(
        "Conditions",
        "Worst error over all tensors",
        "The small model under every activation, with every head, on every kind of batch.",
        "condition",
    ),
    identities.PART: _Part(
        "Identities",
        "Worst relative error",
        f"What right values and gradients fulfil whatever the weights, each to {IDENTITY.model_threshold:.0e}.",
    ),
    zeros.PART: _Part(
        "True zeros",
        "Gradients that are zero by nature",
        "Each has a test of its own: its gradient, beside the largest tensor of the call, and what a step of 1 in "
        "every number of it does to the objective. Nothing else is zero, and no tensor is excepted above.",
    ),
}


def tables(certificate: Certificate) -> Iterator[Table]:
    """All tables of a certificate; the summary comes last, where a terminal shows it."""
    for part in PARTS:
        if rows := certificate.of(part):
            yield headed_table(part, rows)
    yield summary(certificate)


def headed_table(part: str, rows: Sequence[Evidence]) -> Table:
    """The table of one part, which says what part it is of."""
    drawn = table(part, rows)
    return drawn._replace(title=f"{_PARTS[part].heading}: {drawn.title[0].lower()}{drawn.title[1:]}")


def table(part: str, rows: Sequence[Evidence]) -> Table:
    """The table of one part."""
    if part == identities.PART:
        return _identities(rows)
    return _zeros(rows) if part == zeros.PART else _oracles(part, rows)


def summary(certificate: Certificate) -> Table:
    """Oracle by oracle: what is allowed, and the worst that was found."""
    lines = []
    for oracle in ORACLES.values():
        rows = [row for row in certificate.evidence if row.oracle == oracle.name]
        if not rows:
            continue
        of_operations = [row for row in rows if _about_operation(row)]
        of_models = [row for row in rows if not _about_operation(row)]
        cells = []
        for group, allowed in ((of_operations, oracle.operation_threshold), (of_models, oracle.model_threshold)):
            cells += [cell(_worst(group)), f"{allowed:.0e}" if group and allowed is not None else NOTHING]
        compared = sum(row.compared for row in rows)
        lines.append((oracle.name, *cells, f"{compared:,}" if compared else rows[0].detail))
    columns = ("oracle", "worst, operations", "allowed", "worst, models", "allowed", "numbers compared")
    return Table("Worst errors, and what is allowed", columns, tuple(lines))


def _about_operation(row: Evidence) -> bool:
    return row.part == op_checks.PART or (row.part == identities.PART and not row.subject.startswith("model: "))


def _worst(rows: Sequence[Evidence] | None) -> Evidence | None:
    return worst_evidence(rows) if rows else None


def _oracles(part: str, rows: Sequence[Evidence]) -> Table:
    """Subjects × oracles."""
    found = {row.oracle for row in rows}
    oracles = [oracle.name for oracle in DERIVATIVES if oracle.name in found]
    by_subject: dict[str, dict[str, list[Evidence]]] = {}
    for row in rows:
        by_subject.setdefault(row.subject, {}).setdefault(row.oracle, []).append(row)
    lines = tuple(
        (subject, *(cell(_worst(by_oracle.get(oracle))) for oracle in oracles))
        for subject, by_oracle in by_subject.items()
    )
    reasons = sorted({f"{row.oracle}: {row.detail}" for row in rows if row.absent})
    notes = [f"{NOTHING} under {reason}." for reason in reasons]
    if any(re.fullmatch(r"b_K_\d+", subject) for subject in by_subject):
        notes.append("b_K has no gradient by nature; what stands there is rounding beside the largest tensor.")
    return Table(_PARTS[part].caption, (_PARTS[part].first_column, *oracles), lines, tuple(notes))


def _identities(rows: Sequence[Evidence]) -> Table:
    lines = tuple((row.subject, cell(row), row.case, f"{row.compared:,}") for row in rows)
    columns = ("what has to be so", "worst error", "where", "cases")
    return Table(_PARTS[identities.PART].caption, columns, lines, left=(0, 2))


def _zeros(rows: Sequence[Evidence]) -> Table:
    """One line a tensor and reason, over all conditions."""

    def key(row: Evidence) -> tuple[str, str]:
        name = re.sub(r"_\d+$", "", re.sub(r", [\d,]+ rows?$", ", some rows", row.subject))
        return name, row.detail.partition("; ")[0]

    lines = []
    for (name, reason), group in groupby(sorted(rows, key=key), key=key):
        found = list(group)
        worst, conditions = worst_evidence(found), {row.case for row in found}
        allowed = f"{worst.threshold:.0e}" if worst.threshold else "0"
        where = worst.case if len(conditions) == 1 else f"{len(conditions)} conditions"
        lines.append((name, reason, where, cell(worst), allowed, f"{worst.compared:,}"))
    columns = ("what", "why", "where", "worst", "allowed", "numbers")
    return Table(_PARTS[zeros.PART].caption, columns, tuple(lines), left=(0, 1, 2))


def cell(row: Evidence | None) -> str:
    """An error as it stands in a table."""
    if row is None or row.error is None:
        return NOTHING
    error = f"{row.error:.1e}" if row.error else "0"
    return error if row.passed else f"{error} {FAILED}"


def failures(rows: Iterable[Evidence]) -> list[str]:
    """The failing rows by name."""
    return [f"{FAILED} {row}" for row in rows if not row.passed]


def page(certificate: Certificate) -> str:
    """The certificate as a Markdown page."""
    verdict, _, extent = certificate.verdict.partition(": ")
    lines = [
        "# Certificate of every gradient",
        "",
        f"**{verdict}**: {extent} ({certificate.scope}).",
        "",
        f"Made by `{certificate.command}` on {certificate.date} in {certificate.seconds:,.0f} s. What the columns "
        "mean, and how to check an operation of your own: `docs/guide/verification.md`.",
        "",
    ]
    if wrong := failures(certificate.evidence):
        lines += ["## What failed", "", *(f"- {line}" for line in wrong), ""]
    lines += ["## Oracles", "", *(f"- **{oracle.name}**: {oracle.says}." for oracle in ORACLES.values()), ""]
    lines += [summary(certificate).markdown()]
    for part in PARTS:
        if rows := certificate.of(part):
            about = _PARTS[part].about.format(model=certificate.models.get(part, ""))
            lines += [f"## {_PARTS[part].heading}", "", about, "", table(part, rows).markdown()]
    versions = "\n".join(f"| {name} | {version} |" for name, version in certificate.versions.items())
    hashes = "\n".join(f"{digest}  mini_bert/{path}" for path, digest in certificate.sources.items())
    lines += [
        "## Made with",
        "",
        f"| what | version |\n| :--- | :--- |\n{versions}",
        "",
        "An error is ‖g − ĝ‖ / max(‖g‖, ‖ĝ‖, 1e-2 · the largest ‖ĝ‖ of the call). Every row, with the place where it "
        "is worst, stands in `certificate.json`. The sources that were checked, as `sha256sum --check` reads them:",
        "",
        f"```text\n{hashes}\n```",
        "",
    ]
    return "\n".join(lines)
