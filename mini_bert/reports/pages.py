"""A page of `docs/results/` from result files: numbers in prose come from a committed JSON, by a committed command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mini_bert.errors import DataError, nearest
from mini_bert.reports.assessment import assessment_table, comparison_table, history_table
from mini_bert.reports.attention import attention_entropy_table
from mini_bert.reports.evaluation import (
    differences_table,
    efficiency_table,
    evaluation_table,
    overfit_table,
    tasks_table,
)
from mini_bert.reports.facts import facts_tables
from mini_bert.reports.finetuning import (
    error_tables,
    finetuning_tables,
    forgetting_table,
    labelled_table,
    remedies_table,
)
from mini_bert.reports.masked_lm_breakdown import masked_lm_breakdown_tables
from mini_bert.reports.meaning import (
    analogies_table,
    composition_tables,
    sentence_similarity_table,
    word_similarity_table,
)
from mini_bert.reports.minimal_pairs import minimal_pairs_tables
from mini_bert.reports.numerics import numerics_tables
from mini_bert.reports.part_of_speech import part_of_speech_tables
from mini_bert.reports.progression import progression_table
from mini_bert.reports.projection import projection_table
from mini_bert.reports.pseudo_perplexity import pseudo_perplexity_table
from mini_bert.reports.stability import stability_table
from mini_bert.reports.stereotypes import stereotypes_tables
from mini_bert.reports.study import study_tables
from mini_bert.reports.table import Table

Result = Mapping[str, Any]


def assessment_tables(result: Result) -> list[Table]:
    """The one table, and, of parts that were asked for by name, their own.

    Raises:
        DataError: as `tables`, of a part.
    """
    whole = [part["result"] for part in result["parts"] if "result" in part] if result.get("whole") else []
    return [assessment_table(result), *(table for found in whole for table in tables(found))]


TABLES: dict[str, Callable[[Result], list[Table]]] = {
    "evaluation": lambda result: [
        evaluation_table(result),
        differences_table(result),
        *([tasks_table(result)] if result.get("tasks") else []),
    ],
    "assessment": assessment_tables,
    "comparison": lambda result: [comparison_table(result)],
    "history": lambda result: [history_table(result)],
    "attention_entropy": lambda result: [attention_entropy_table(result)],
    "efficiency": lambda result: [efficiency_table(result)],
    "overfit": lambda result: [overfit_table(result)],
    "projection": lambda result: [projection_table(result)],
    "numerics": numerics_tables,
    "masked_lm_breakdown": masked_lm_breakdown_tables,
    "minimal_pairs": minimal_pairs_tables,
    "pseudo_perplexity": lambda result: [pseudo_perplexity_table(result)],
    "part_of_speech": part_of_speech_tables,
    "word_similarity": lambda result: [word_similarity_table(result)],
    "analogies": lambda result: [analogies_table(result)],
    "sentence_similarity": lambda result: [sentence_similarity_table(result)],
    "facts": facts_tables,
    "composition": composition_tables,
    "stereotypes": stereotypes_tables,
    "stability": lambda result: [stability_table(result)],
    "finetuning": finetuning_tables,
    "labelled": lambda result: [labelled_table(result)],
    "error_patterns": error_tables,
    "forgetting": lambda result: [forgetting_table(result)],
    "forgetting_remedies": lambda result: [remedies_table(result)],
    "study": study_tables,
    "progression": lambda result: [
        progression_table({int(steps): values for steps, values in result["measured"].items()})
    ],
}
"""Kind of a result → its tables."""


def tables(result: Result) -> list[Table]:
    """The tables of a result: `{"kind": …}`, or `{"results": [{"kind": …}, …]}` for several.

    Raises:
        DataError: the kind is unknown, or something is missing in it.
    """
    if "results" in result:
        return [table for part in result["results"] for table in tables(part)]
    kind = str(result.get("kind"))
    if kind not in TABLES:
        raise DataError("kind", got=f"'{kind}'", expected="a result that has a table", advice=nearest(kind, TABLES))
    try:
        return TABLES[kind](result)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"result of kind {kind}", got=f"{type(error).__name__}: {error}", expected="all keys"
        ) from error


def read_result(path: Path) -> dict[str, Any]:
    """A result file.

    Raises:
        DataError: it cannot be read, or is not a JSON object.
    """
    try:
        result = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(str(path), got=error.strerror, expected="a result file") from error
    except ValueError as error:
        raise DataError(str(path), got=str(error), expected="JSON") from error
    if not isinstance(result, dict):
        raise DataError(str(path), got=type(result).__name__, expected="a JSON object")
    return result


def page(title: str, results: Sequence[tuple[str, Result]]) -> str:
    """A Markdown page of results, each with the name of its file; it names the command that makes it.

    Raises:
        DataError: as `tables`.
    """
    names = [name for name, _ in results]
    lines = [f"# {title}", "", f'*Made by `python -m mini_bert.reports --title "{title}" {" ".join(names)}`.*', ""]
    for _, result in results:
        if text := result.get("about"):
            lines += [text, ""]
        lines += [table.markdown() for table in tables(result)]
    return "\n".join(lines)
