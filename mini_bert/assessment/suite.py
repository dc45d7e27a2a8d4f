"""All measurements of a model, one behind another; what was measured before is not measured again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mini_bert.assessment.kept_results import KeptResults
from mini_bert.assessment.parts import PARTS, Part
from mini_bert.assessment.subject import Subject
from mini_bert.errors import DataError, InvalidInputError, MissingExtraError, NonFiniteError, nearest
from mini_bert.machine import peak_bytes

_LEFT_OUT = (DataError, InvalidInputError, MissingExtraError, NonFiniteError)
Done = Callable[[str, float], None]
"""Told the title of a part that is done, and the seconds that it took."""


def chosen_parts(only: Sequence[str], quick: bool) -> list[Part]:
    """The parts of these names; without names all, or those of a quick look.

    Raises:
        InvalidInputError: there is no such part.
    """
    for name in only:
        if name not in PARTS:
            raise InvalidInputError("--only", got=repr(name), expected="names of parts", advice=nearest(name, PARTS))
    return [part for part in PARTS.values() if (part.name in only if only else part.in_quick or not quick)]


def assess(
    subject: Subject,
    parts: Collection[Part],
    *,
    done: Done = lambda title, seconds: None,
) -> dict[str, Any]:
    """Measure every part, or take it from what was kept, unless `subject.again`.

    A part whose data are not to be had, that needs an extra which is not installed, a head which the model does not
    have, or a vocabulary that knows its words, or that overflows, is left out and says why; everything else that fails,
    fails.

    Args:
        subject: whom.
        parts: which, in their order.
        done: told of each part that was measured.

    Returns:
        Plain values for JSON, of kind `assessment`: `parts` lists `name`, `title`, and `result` or `left_out`;
        `seconds` and `peak_memory_bytes` are those of when the parts were measured, kept ones too.
    """
    kept = KeptResults(subject.sha256)
    found = []
    for part in parts:
        if missing := [head for head in part.heads if head not in subject.model.config.heads]:
            found.append(_left_out(part, f"The model has no head {', '.join(missing)}."))
            continue
        start = time.perf_counter()
        try:
            measurement = _measurement(subject, part)
            result = None if subject.again else kept.read(measurement)
            if result is None:
                measured = part.measure(subject)
                elapsed = time.perf_counter() - start
                seconds = max(elapsed, measured.get("training_seconds", 0.0))  # of runs that went on: all sittings
                result = {**measured, "part_seconds": seconds, "part_peak_memory_bytes": peak_bytes()}
                kept.keep(measurement, result)
                done(part.title, seconds)
        except _LEFT_OUT as error:
            found.append(_left_out(part, str(error)))
        else:
            found.append({"name": part.name, "title": part.title, "result": result})
    results = [part["result"] for part in found if "result" in part]
    peaks = [peak_bytes(), *(result.get("part_peak_memory_bytes") for result in results)]
    return {
        "kind": "assessment",
        "model": dict(subject.facts),
        "quick": subject.quick,
        "parts": found,
        "seconds": sum(result["part_seconds"] for result in results),
        "peak_memory_bytes": max((peak for peak in peaks if peak is not None), default=None),
    }


def compare(assessments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several assessments side by side, of kind `comparison`."""
    return {"kind": "comparison", "assessments": list(assessments)}


def history(assessments: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Assessments of one training by the steps that it had done, of kind `history`."""
    return {
        "kind": "history",
        "steps": sorted(assessments),
        "assessments": [assessments[n] for n in sorted(assessments)],
    }


def _left_out(part: Part, reason: str) -> dict[str, Any]:
    return {"name": part.name, "title": part.title, "left_out": reason}


def _measurement(subject: Subject, part: Part) -> dict[str, Any]:
    """All that the result hangs on, beside the model."""
    return {
        "part": part.name,
        "version": part.version,
        "quick": subject.quick,
        **(_text(subject) if part.text else {}),
        **part.hangs_on(subject),
    }


def _text(subject: Subject) -> dict[str, Any]:
    config, tokens = subject.config, subject.tokens
    return {
        "data": config.data.model_dump(mode="json"),
        "texts": [tokens.train.fingerprint, tokens.held_out.fingerprint],
        "evaluation": config.evaluation.model_dump(mode="json"),
        "seed": config.run.seed,
        "tasks": config.tasks.model_dump(mode="json"),
    }
