"""Sentences and two edits of each: one keeps the meaning, the other changes it, and no word tells which.

    role reversal     The man helped the boy.        The boy was helped by the man.   The man was helped by the boy.
    swapped features  The old man saw the tall boy.  The tall boy was seen by the …   The old boy was seen by the …
    negation          The man is sleeping.           The man is now sleeping.         The man is not sleeping.

In the first two the edits have the very same words, so that their order decides; and the words at the beginning speak
for the wrong one. In the third each edit adds one short word. All combinations of the words below are made: nothing is
drawn, and nothing was chosen by how a model does.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

PEOPLE = ("man", "woman", "boy", "girl", "king", "queen", "doctor", "teacher", "soldier", "lawyer", "father", "mother")
DEEDS = (
    ("helped", "helped"),
    ("followed", "followed"),
    ("attacked", "attacked"),
    ("visited", "visited"),
    ("called", "called"),
    ("loved", "loved"),
    ("killed", "killed"),
    ("saw", "seen"),
)
"""Past tense and participle."""
FEATURES = (
    ("old", "tall"),
    ("young", "rich"),
    ("poor", "strong"),
    ("happy", "famous"),
    ("brave", "small"),
    ("clever", "thin"),
    ("sad", "wise"),
    ("kind", "short"),
    ("angry", "blind"),
    ("lonely", "proud"),
    ("tired", "careful"),
    ("quiet", "fat"),
)
STATES = ("sleeping", "working", "waiting", "singing", "dancing", "running", "talking", "smiling", "playing", "dead")
HARMLESS = ("now", "still", "also", "already", "again", "just")


class MinimalEdit(NamedTuple):
    """A sentence, and two that lie one edit away."""

    kind: str
    sentence: str
    same: str
    """Means the same, or nearly."""
    other: str
    """Does not."""
    group: str
    """Edits of one group share the words that decide which edit moves the sentence farther."""


KINDS = ("role reversal", "swapped features", "negation")


def minimal_edits() -> list[MinimalEdit]:
    """All of them, kind by kind."""
    return [*_role_reversals(), *_swapped_features(), *_negations()]


def reversed_roles(edit: MinimalEdit) -> str:
    """The active sentence of a role reversal with its people swapped.

    >>> reversed_roles(minimal_edits()[0])
    'The woman helped the man.'
    """
    _, first, deed, _, second = edit.sentence.rstrip(".").split()
    return f"The {second} {deed} the {first}."


def _role_reversals() -> Iterator[MinimalEdit]:
    for a, b in combinations(PEOPLE, 2):
        for past, participle in DEEDS:
            yield MinimalEdit(
                KINDS[0],
                f"The {a} {past} the {b}.",
                f"The {b} was {participle} by the {a}.",
                f"The {a} was {participle} by the {b}.",
                f"{a} {b}",
            )


def _swapped_features() -> Iterator[MinimalEdit]:
    for a, b in combinations(PEOPLE, 2):
        for x, y in FEATURES:
            yield MinimalEdit(
                KINDS[1],
                f"The {x} {a} saw the {y} {b}.",
                f"The {y} {b} was seen by the {x} {a}.",
                f"The {x} {b} was seen by the {y} {a}.",
                f"{x} {y}",
            )


def _negations() -> Iterator[MinimalEdit]:
    for person in PEOPLE:
        for state in STATES:
            for word in HARMLESS:
                yield MinimalEdit(
                    KINDS[2],
                    f"The {person} is {state}.",
                    f"The {person} is {word} {state}.",
                    f"The {person} is not {state}.",
                    f"{word} {state}",
                )
