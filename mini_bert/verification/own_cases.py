"""What is an operation of one's own to be called with? Whatever is easiest to write becomes cases."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array, Case

MOST_NUMBERS = 100_000
"""Every number of every input is moved by itself; more of them take minutes and show no other mistakes."""

_EXPECTED = "a tuple of float arrays, (arrays, {'constant': …}), a function of a generator, or a list or dict of these"


def own_cases(cases: Any) -> list[Case]:
    """`Case`s of whatever `check_op` was given.

    Raises:
        InvalidInputError: there is none, or it is nothing of the kind.
    """
    if isinstance(cases, Mapping):
        named = [(str(name), case) for name, case in cases.items()]
    elif isinstance(cases, list) or (isinstance(cases, tuple) and cases and all(isinstance(c, Case) for c in cases)):
        named = [(f"case {number}", case) for number, case in enumerate(cases)]
    else:
        named = [("", cases)]
    if not named:
        raise InvalidInputError("cases", got="none", expected=_EXPECTED)
    return [_case(name, case) for name, case in named]


def _case(name: str, case: Any) -> Case:
    if isinstance(case, Case):
        return Case(case.name, partial(_made, case.name, case.make))
    if callable(case):
        return Case(name, partial(_made, name, case))
    return Case(name, partial(_made, name, lambda rng: case))


def _made(name: str, make: Callable[[np.random.Generator], Any], rng: np.random.Generator) -> Any:
    """Inputs in float64, and constants."""
    made = make(rng)
    constants: dict[str, Any] = {}
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping):
        made, constants = made[0], dict(made[1])
    if isinstance(made, np.ndarray | float):
        made = (made,)
    if not isinstance(made, tuple | list) or not made:
        raise InvalidInputError("cases", got=f"{type(made).__name__} {made!r:.60}", expected=_EXPECTED)
    values = tuple(_float_array(name, number, value) for number, value in enumerate(made))
    total = sum(value.size for value in values)
    if total > MOST_NUMBERS:
        raise InvalidInputError(
            "cases",
            got=f"inputs of {total:,} numbers{f' in {name}' if name else ''}",
            expected=f"at most {MOST_NUMBERS:,}",
            advice="Every number is moved by itself, and a few rows show the same mistakes.",
        )
    return values, constants


def _float_array(name: str, number: int, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        got = f"an array of {array.dtype}" if array.dtype.kind != "f" else "NaN or infinity"
        raise InvalidInputError(
            f"input {number}{f' of {name}' if name else ''}",
            got=got,
            expected="finite floats",
            advice="Ids, masks and settings are constants: ((x, W), {'ids': ids}).",
        )
    return np.array(array, np.float64)


def input_names_of(
    forward: Callable[..., Any], count: int, constants: Collection[str], names: Sequence[str] | None
) -> tuple[str, ...]:
    """The names of so many inputs: those given, or those in the signature that are not constants of the case.

    Raises:
        InvalidInputError: there are more or fewer names than inputs.
    """
    if names is not None:
        if isinstance(names, str) or len(names) != count:
            raise InvalidInputError("names", got=names, expected=f"one name for each of the {count} inputs")
        return tuple(names)
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    by_position = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in constants
    ]
    required = [p.name for p in by_position if p.default is p.empty]
    takes_any = not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not takes_any and not len(required) <= count <= len(by_position):
        raise InvalidInputError(
            "cases",
            got=f"{count} input{'s' * (count != 1)}",
            expected=f"{len(required)}, as forward takes: {', '.join(required)}",
            advice="Constants are handed over by name: ((x, W), {'eps': 1e-5}).",
        )
    found = tuple(p.name for p in by_position)[:count]
    return found if len(found) == count else tuple(f"input{number}" for number in range(count))
