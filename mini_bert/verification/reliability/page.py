"""The promises and what came out when they were last tried, as a page: `docs/reliability.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mini_bert.reports.table import Table

PROMISES = {
    "R1": "Byte-exact resume, on the same kind of machine",
    "R2": "Any number of resumes within an epoch",
    "R3": "Save, load, save is an identity",
    "R4": "`kill -9` at any moment",
    "R5": "Full, read-only and failing disks",
    "R6": "A damaged checkpoint never loads silently",
    "R7": "Neither does a damaged token file",
    "R8": "No file executes code",
    "R9": "No file hangs the program or eats the memory",
    "R10": "Bad input has a message, never a silent wrong number",
    "R11": "Gradients are right",
    "R12": "The tests can fail",
    "R13": "NaN and overflow are found, named and survived",
    "R14": "The order of the data is a pure function of seed and position",
    "R15": "The same bits on any number of threads and processes",
    "R16": "The tokenizer is BERT's",
    "R17": "Checkpoints are Hugging Face models",
    "R18": "Numerics at the extremes",
    "R19": "Memory stays where it was foretold",
    "R20": "Signals save, and say so",
    "R21": "The log survives",
    "R22": "One trainer a run",
    "R23": "Studies survive too",
    "R24": "What was released goes on loading",
}
"""Every promise."""

ELSEWHERE = {
    "R10": "`tests/model/test_model_inputs.py`",
    "R11": "[certificate](certificate.md)",
    "R12": "[mutants](mutants.md), [bug zoo](bug-zoo.md)",
    "R17": "[Hugging Face](guide/huggingface.md), `make test-reference`",
    "R18": "[certificate](certificate.md), `tests/ops/`, [numerics](guide/numerics.md)",
}
"""By what other means promises are proven."""

_HEAD = """# Reliability: what is promised, and how often it held

A run is a mathematical object: a function of its configuration, its data and the kind of machine. It can be stopped,
killed, starved of disk and memory, spread over threads and processes, and ends with the same bits.

Each line is an experiment that breaks something on purpose and counts how often the promise held.
`make reliability` runs them all and writes this page; `python -m mini_bert.verification.reliability R4` runs those of
one promise, `--quick` with the small counts of the test suite. How it is done stands in the guide:
[checkpoints](guide/checkpoints.md), [health](guide/health.md), [parallel](guide/parallel.md),
[memory](guide/memory.md), [runs](guide/runs.md), [data](guide/data.md).

"""

_FOOT = """
## What is not promised

Equal bits on another type of processor, another BLAS build or another version of NumPy. Elementary functions and matrix
products round differently there. The kernel and the versions are recorded with every checkpoint, and a resume under
others says so. Nor can a program help where a disk confirms what it has not written, beyond noticing it when the file
is read again.
"""


def page(result: Mapping[str, Any]) -> str:
    """The whole page, from what `reliability.json` holds."""
    machine = result["machine"]
    made = f"Tried on {machine['system']}, {machine['blas']}, Python {machine['python']}, NumPy {machine['numpy']}."
    sections = [
        f"\n### {number}: {title}\n\n{table_of(result, number)}"
        for number, title in PROMISES.items()
        if _of(result, number)
    ]
    return "".join([_HEAD, table(result).markdown(), f"\n{made}\n\n## Every experiment\n", *sections, _FOOT])


def table(result: Mapping[str, Any]) -> Table:
    """One line a promise: how often it was tried and held, or by what other means it is proven."""
    rows = []
    for number, title in PROMISES.items():
        records = _of(result, number)
        tried, failed = sum(record["tried"] for record in records), sum(record["failed"] for record in records)
        held = f"{tried - failed:,} of {tried:,}" if tried else ""
        last = max((record["date"] for record in records), default="")
        rows.append((number, title, held, ELSEWHERE.get(number, ""), last))
    return Table("Promises", ("", "", "held", "also proven by", "last run"), tuple(rows), left=(0, 1, 3, 4))


def _of(result: Mapping[str, Any], promise: str) -> list[Mapping[str, Any]]:
    return [record for record in result["experiments"] if record["promise"] == promise]


def table_of(result: Mapping[str, Any], promise: str) -> str:
    """The experiments on one promise, with what they measured on the way."""
    lines = []
    for record in _of(result, promise):
        held = f"{record['tried'] - record['failed']:,} of {record['tried']:,}" if record["tried"] else "not possible"
        measured = f" ({figures(record['measured'])})" if record["measured"] else ""
        lines.append(f"- **{held}**: {record['name']}. {_sentence(record['promised'])}{measured}\n")
    return "".join(lines) or "- not tried yet\n"


def summary(result: Mapping[str, Any]) -> str:
    """One sentence for the README."""
    records = result["experiments"]
    number, failed = sum(record["tried"] for record in records), sum(record["failed"] for record in records)
    promises = len({record["promise"] for record in records})
    held = f"{number - failed:,} held, {failed} did not"
    return f"{len(records)} experiments on {promises} promises, {number:,} trials: {held}"


def figures(measured: Mapping[str, Any]) -> str:
    """Measured values in one line; a table has a place of its own.

    >>> figures({"seconds_to_end": 1.23456, "steps": 40, "ratios": [1.0, 2.5]})
    'seconds to end 1.23; steps 40; ratios 1, 2.5'
    """
    return "; ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in measured.items() if name != "table")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
