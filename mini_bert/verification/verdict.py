"""How is it said what is wrong with an operation?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mini_bert.verification.gradient_check import RULES, TensorError


class Finding(NamedTuple):
    """One thing that is wrong."""

    place: str
    """`dW`, `output`, `forward` or `backward`."""
    text: str
    """What is wrong there, as it follows the name: `is the transpose of what it should be`."""
    case: str
    """The first case in which it showed."""
    detail: str = ""
    """How large the error is, and where it is largest."""

    def __str__(self) -> str:
        return f"{self.place} {self.text}"


@dataclass(frozen=True)
class Verdict:
    """Whether an operation is right; true if so, and in words when printed."""

    operation: str
    inputs: tuple[str, ...]
    findings: tuple[Finding, ...]
    """Everything that is wrong, case by case."""
    errors: tuple[tuple[str, TensorError], ...]
    """(rule, error of a gradient) of everything that was compared."""
    notes: tuple[str, ...]
    """What one should know about how it was checked."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = [f"{self.operation}: {'right' if self.passed else 'wrong'}"]
        by_text: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_text.setdefault(str(finding), []).append(finding)
        for text, findings in by_text.items():
            case = f"in {findings[0].case}" if findings[0].case else ""
            more = f"{len(findings)} cases, the first" if len(findings) > 1 else ""
            where = ": ".join(part for part in (f"{more} {case}".strip(), findings[0].detail) if part)
            lines += [f"  {text}", *([f"      {where}"] if where else [])]
        wrong = {finding.place for finding in self.findings}
        right = [f"d{name}" for name in self.inputs if f"d{name}" not in wrong]
        for rule in RULES.values():
            errors = [error for name, error in self.errors if name == rule.name and error.name in right]
            if errors and not {"forward", "backward"} & wrong:
                compared = sum(error.compared for error in errors)
                worst = max(error.error for error in errors)
                names = ", ".join(dict.fromkeys(error.name for error in errors))
                lines.append(
                    f"  right: {names} ({compared:,} entries by {rule.name}, worst error {worst:.0e} of "
                    f"{rule.operation_threshold:.0e})"
                )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])
