"""Facts as sentences with a gap: LAMA (Petroni et al. 2019) and ParaRel (Elazar et al. 2021).

A relation of Wikidata is written as a pattern, "[X] was born in [Y].", and a fact fills X in. LAMA has one pattern a
relation; ParaRel several, which say the same. LAMA's questions of SQuAD are sentences as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.data.readers import Lines
from mini_bert.data.sources import fetch
from mini_bert.errors import DataError
from mini_bert.foreign_files import parse_json

MASK = "[MASK]"


class Fact(NamedTuple):
    """What is true of a subject."""

    subject: str
    answer: str


class Relation(NamedTuple):
    """Facts of one kind, and the ways to say them."""

    name: str
    """Wikidata's, as P19."""
    label: str
    patterns: tuple[str, ...]
    """With [X] for the subject and [Y] for the answer; the first is the one that LAMA would ask."""
    facts: tuple[Fact, ...]

    def question(self, pattern: int, subject: str) -> str:
        """A pattern with the subject in it and [MASK] for the answer."""
        return self.patterns[pattern].replace("[Y]", MASK).replace("[X]", subject)


class Question(NamedTuple):
    """A sentence with [MASK] in it, and what stood there."""

    text: str
    answer: str


def lama_relations() -> list[Relation]:
    """The relations of LAMA's T-REx that are at hand, each with its one pattern; facts that stand twice count once.

    Raises:
        DataError: a file is not there and cannot be fetched, or is not as it should be.
    """
    paths = {_place(path): path for path in fetch("lama")}
    known = {line["relation"]: line for line in json_lines(paths["lama", "relations"], ("relation", "template"))}
    return [
        _relation(name, known, (_checked(known[name]["template"], path),), path)
        for (folder, name), path in sorted(paths.items())
        if folder == "TREx"
    ]


def lama_squad() -> list[Question]:
    """LAMA's questions of SQuAD: statements with one word hidden; the few in which it is hidden twice are left out.

    Raises:
        DataError: as `lama_relations`.
    """
    path = next(path for path in fetch("lama") if path.parent.name == "Squad")
    lines = json_lines(path, ("masked_sentences", "obj_label"))
    questions = [Question(" ".join(line["masked_sentences"]), line["obj_label"]) for line in lines]
    return [question for question in questions if question.text.count(MASK) == 1]


def pararel_relations() -> list[Relation]:
    """ParaRel's relations with all their patterns; the two without patterns are left out.

    Raises:
        DataError: as `lama_relations`.
    """
    paths = {_place(path): path for path in fetch("pararel")}
    relations = next(path for path in fetch("lama") if path.name == "relations.jsonl")
    known = {line["relation"]: line for line in json_lines(relations, ("relation",))}
    return [
        _relation(
            name,
            known,
            tuple(_checked(line["pattern"], path) for line in json_lines(path, ("pattern",))),
            paths["trex_lms_vocab", name],
        )
        for (folder, name), path in sorted(paths.items())
        if folder == "graphs_json" and ("trex_lms_vocab", name) in paths
    ]


def json_lines(path: Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The objects of a file with one a line.

    Raises:
        DataError: the file cannot be read, a line is not a JSON object, or lacks one of the keys.
    """
    for number, line in enumerate(Lines(path, longest=-1), start=1):
        if not line.strip():
            continue
        try:
            value, wrong = parse_json(line), f"{line!r:.60}"
        except ValueError as error:
            value, wrong = None, str(error)
        if not isinstance(value, dict) or not all(key in value for key in keys):
            raise DataError(f"{path}:{number}", got=wrong, expected=f"a JSON object with {', '.join(keys)}")
        yield value


def _relation(name: str, known: dict[str, dict[str, Any]], patterns: tuple[str, ...], path: Path) -> Relation:
    facts = dict.fromkeys(
        Fact(line["sub_label"], line["obj_label"]) for line in json_lines(path, ("sub_label", "obj_label"))
    )
    return Relation(name, str(known.get(name, {}).get("label", name)), patterns, tuple(facts))


def _checked(pattern: str, path: Path) -> str:
    if pattern.count("[X]") != 1 or pattern.count("[Y]") != 1:
        raise DataError(str(path), got=f"{pattern!r}", expected="a pattern with one [X] and one [Y]")
    return pattern.replace(" .", ".")


def _place(path: Path) -> tuple[str, str]:
    return path.parent.name, path.stem
