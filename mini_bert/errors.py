"""What went wrong, in words: the one family of errors that Mini-BERT raises on purpose.

Every message names the argument, what was got, what was expected and what to do. The command line turns any of them
into one line and exit code 2; anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MiniBertError(Exception):
    """Base of all errors of this package.

    Args:
        argument: the name of what is wrong, as the caller wrote it (`input_ids`, `--corpus`, a path).
        got: what was found there.
        expected: what would have been right.
        advice: what to do now; may be empty.
    """

    def __init__(self, argument: str, *, got: object, expected: str, advice: str = "") -> None:
        self.argument = argument
        self.got = got
        self.expected = expected
        self.advice = advice
        super().__init__(argument, got, expected, advice)

    def __str__(self) -> str:
        message = f"{self.argument}: got {self.got}; expected {self.expected}."
        return f"{message} {self.advice}" if self.advice else message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.argument, str(self.got), self.expected, self.advice))


def _rebuild(kind: type[MiniBertError], argument: str, got: object, expected: str, advice: str) -> MiniBertError:
    return kind(argument, got=got, expected=expected, advice=advice)


class InvalidInputError(MiniBertError, ValueError):
    """An argument of a function is outside what the function is defined for."""


class ConfigError(MiniBertError, ValueError):
    """A configuration names something that does not exist or contradicts itself."""


class DataError(MiniBertError):
    """A corpus, a file or a vocabulary cannot be used as it is."""


class ChecksumError(DataError):
    """A file does not hold the bytes that it should hold."""


class CheckpointError(MiniBertError):
    """A checkpoint or a foreign weight file cannot be loaded without guessing."""


class StorageError(MiniBertError):
    """Writing failed: disk full, read-only, or an input/output error."""


class RunInUseError(MiniBertError):
    """Another process is writing to the same run folder."""


class NonFiniteError(MiniBertError, ArithmeticError):
    """A loss, a gradient or an activation is NaN or infinite."""


class RanksDifferError(MiniBertError):
    """Processes that train one model together hold what should be the same, and is not."""


class MissingExtraError(MiniBertError, ImportError):
    """An optional package is needed for this and is not installed."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint for a mistyped name: `Did you mean 'novels'?`, or the list of all choices when none is near.

    >>> nearest("novel", ["brown", "novels"])
    "Did you mean 'novels'?"
    >>> nearest("xyz", ["brown", "novels"])
    'Choices: brown, novels.'
    >>> nearest("mine", ["mine-seed-0", "mine-seed-1", "yours"])
    "Did you mean 'mine-seed-0'?"
    """
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    close += [choice for choice in known if name and choice.startswith(name)]
    return f"Did you mean '{close[0]}'?" if close else f"Choices: {', '.join(known)}."
