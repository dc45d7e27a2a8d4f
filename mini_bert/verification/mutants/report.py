"""The score, by file and by operator, and every survivor with its reason: as JSON, as a page, as a table."""

from __future__ import annotations

import datetime
import inspect
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mini_bert.reports.pages import read_result
from mini_bert.reports.table import Table
from mini_bert.verification.mutants.left_out import REGIONS
from mini_bert.verification.mutants.operators import OPERATORS
from mini_bert.verification.mutants.reasons import reason_of
from mini_bert.verification.mutants.records import Record

WANTED = 0.95
"""The least share of mutants that tests have to kill."""

COMMAND = "python -m mini_bert.verification.mutants"


def result_of(
    records: Sequence[Record],
    possible: Mapping[str, int],
    *,
    seed: int,
    minutes: float,
    zoo: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What was measured, as it is written to `mutants.json`.

    Args:
        records: one for each mutant of the sample.
        possible: mutants of each file of which the sample was drawn.
        seed: of the sample.
        minutes: that this start took; a start that went on from earlier results took less than the whole.
        zoo: see `zoo_of`.
    """
    killed = [record for record in records if not record.survived]
    by_file = {path: [record for record in records if record.path == path] for path in possible}
    by_operator = {name: [record for record in records if record.operator == name] for name in OPERATORS}
    return {
        "kind": "mutants",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "pytest")}},
        "seed": seed,
        "possible": sum(possible.values()),
        "tried": len(records),
        "killed": len(killed),
        "score": round(len(killed) / len(records), 4),
        "killed_by": dict(Counter(record.how for record in killed)),
        "processor_seconds": {
            "all": round(sum(record.seconds for record in records)),
            "mean": round(sum(record.seconds for record in records) / len(records), 2),
        },
        "minutes": round(minutes, 1),
        "zoo": zoo,
        "files": {
            path: {"possible": possible[path], **_count(of_file)} for path, of_file in by_file.items() if of_file
        },
        "operators": {name: _count(made) for name, made in by_operator.items() if made},
        "survivors": [_survivor(record) for record in records if record.survived],
        "kills": [[f"{r.path}:{r.line}", r.operator, r.name, r.how, r.by] for r in killed],
    }


def _count(records: Sequence[Record]) -> dict[str, int]:
    return {"tried": len(records), "killed": sum(not record.survived for record in records)}


def _survivor(record: Record) -> dict[str, Any]:
    reason = reason_of(record.path, record.before, record.after)
    return {
        "file": record.path,
        "line": record.line,
        "operator": record.operator,
        "before": record.before,
        "after": record.after,
        "kind": reason.kind if reason else "open",
        "reason": reason.why if reason else "",
    }


def score_table(result: Mapping[str, Any]) -> Table:
    """The score of each file, and of all."""
    rows = [
        (path, f"{of['possible']:,}", str(of["tried"]), str(of["tried"] - of["killed"]), _percent(of))
        for path, of in result["files"].items()
    ]
    total = (f"{result['possible']:,}", str(result["tried"]), str(result["tried"] - result["killed"]), _percent(result))
    rows.append(("all", *total))
    kinds = Counter(survivor["kind"] for survivor in result["survivors"])
    note = f"Survivors: {kinds['equivalent']} equivalent, {kinds['harmless']} harmless, {kinds['open']} want a test."
    return Table(
        "Mutants by file",
        ("file", "possible", "tried", "survived", "killed"),
        tuple(rows),
        notes=(note,),
        strong=(len(rows) - 1,),
    )


def operator_table(result: Mapping[str, Any]) -> Table:
    """The score of each operator, with what it does."""
    rows = [
        (name, (inspect.getdoc(OPERATORS[name]) or "").replace("→", "to"), str(of["tried"]), _percent(of))
        for name, of in result["operators"].items()
    ]
    return Table("Mutants by operator", ("operator", "what it does", "tried", "killed"), tuple(rows), left=(0, 1))


def _percent(of: Mapping[str, Any]) -> str:
    return f"{100 * of['killed'] / of['tried']:.1f} %"


def page(result: Mapping[str, Any]) -> str:
    """The page `docs/mutants.md`."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    ways = ", ".join(f"{count} by {_WAYS[how]}" for how, count in sorted(result["killed_by"].items()))
    rules = "\n".join(f"- {inspect.getdoc(rule)}" for rule in REGIONS)
    survivors = "\n".join(map(_paragraph, result["survivors"])) or "None.\n"
    zoo = result["zoo"]
    caught = f" ({zoo['caught']} of {zoo['bugs']} are caught)" if zoo else ""
    others = "".join(
        f"; with seed {of['seed']}, {of['killed']} of {of['tried']} are killed ({_percent(of)}, {of['date']})"
        for of in result.get("other_samples", ())
    )
    return f"""# Mutation score

*Made by `{COMMAND}` (`make mutants`); {result["date"]}, {versions}.*

**{result["killed"]} of {result["tried"]} mutants are killed: {_percent(result)}.** Tests that always pass prove
nothing. Would ours notice a mistake? A mutant is this package with one small error in one line: a plus for a minus, an
axis, a bound, a constant, a statement left out. Its tests are run; if one fails, the mutant is killed. The
[bug zoo](bug-zoo.md) asks the same of errors that people really made{caught}; mutants are drawn by lot, so that nobody
chose what the tests see.

{result["possible"]:,} mutants of `ops/`, `model/`, `optim/` and `data/masking.py` are possible; {result["tried"]} are
tried, shared over the files in proportion, drawn with seed {result["seed"]}, fixed before any score was known{others}.
Each meets the default tests of its own module alone (`mini_bert/verification/mutants/project.py` says which), in a
process of its own, {result["processor_seconds"]["mean"]} s of processor time on average; the same tests pass with the
unchanged file put in the same way. Killed: {ways}.

Some mutants cannot be killed: they compute the same in another way. Which ones these are is undecidable in general, so
none is taken out of the score by hand; each survivor stands below with its reason.

{score_table(result).markdown()}
{operator_table(result).markdown()}
## Survivors

{survivors}
## What is not mutated

{rules}
- A change that gives the same instructions, or an earlier mutant again; the two arguments of `min`, `add`, `swapaxes`
  and others that do not care for their order; a negative length of
  `reshape`, which NumPy takes for the unknown one whatever its size.

Nothing is left out because no test looks at it.

## How to run it

    make mutants                                     the whole sample, and this page
    {COMMAND} --file ops/softmax.py --sample 50
    {COMMAND} --survivors       again, only those that survived
    {COMMAND} --seed 1          another sample

A hunt that was stopped goes on where it was. Results are kept in `runs/mutants/`; `--fresh` begins anew.
"""


_WAYS = {
    "test": "a test that fails",
    "import": "an error on import",
    "timeout": "never ending",
    "crash": "a crash",
}


def zoo_of(docs: Path) -> dict[str, int] | None:
    """How many bugs of the zoo there are, and how many a test catches; None where the zoo has not been run."""
    path = docs / "results" / "bug-zoo.json"
    if not path.is_file():
        return None
    bugs = json.loads(path.read_bytes())["bugs"].values()
    return {"bugs": len(bugs), "caught": sum(bool(bug["caught"]) for bug in bugs)}


def _paragraph(survivor: Mapping[str, Any]) -> str:
    reason = f"**{survivor['kind'].capitalize()}.** {survivor['reason']}" if survivor["reason"] else "**Wants a test.**"
    return f"""`{survivor["file"]}:{survivor["line"]}`, {survivor["operator"]}

```diff
-{survivor["before"]}
+{survivor["after"]}
```

{reason}
"""


def write(result: Mapping[str, Any], docs: Path) -> None:
    """Write `results/mutants.json` and `mutants.md` into the folder of the documentation.

    Scores of samples of other seeds that stand there already stay; see `add_sample`.
    """
    earlier = _published(docs) or {}
    _publish({**result, "other_samples": earlier.get("other_samples", [])}, docs)


def add_sample(result: Mapping[str, Any], docs: Path) -> None:
    """Put the score of a sample of another seed beside the published one, if there is one."""
    published = _published(docs)
    if published is None:
        return
    kept = [other for other in published.get("other_samples", ()) if other["seed"] != result["seed"]]
    kept.append({name: result[name] for name in ("seed", "date", "tried", "killed")})
    _publish({**published, "other_samples": sorted(kept, key=lambda other: int(other["seed"]))}, docs)


def _published(docs: Path) -> dict[str, Any] | None:
    path = docs / "results" / "mutants.json"
    return read_result(path) if path.is_file() else None


def _publish(result: Mapping[str, Any], docs: Path) -> None:
    (docs / "results").mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    (docs / "results" / "mutants.json").write_text(text + "\n", encoding="utf-8")
    write_page(docs)


def write_page(docs: Path) -> None:
    """Write `mutants.md` of what stands in `results/mutants.json`.

    Raises:
        DataError: there is no such file.
    """
    (docs / "mutants.md").write_text(page(read_result(docs / "results" / "mutants.json")), encoding="utf-8")
