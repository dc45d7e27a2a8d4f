from __future__ import annotations

import copy
import pickle

import pytest

from mini_bert import errors
from mini_bert.errors import DataError, InvalidInputError, MiniBertError, nearest

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MiniBertError)]


def test_there_is_one_family() -> None:
    assert len(KINDS) >= 9
    assert issubclass(errors.ChecksumError, DataError)
    assert issubclass(InvalidInputError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("advice", ["", "Do that."])
def test_the_message_names_argument_finding_and_expectation(kind: type[MiniBertError], advice: str) -> None:
    error = kind("seed", got=-1, expected="a whole number", advice=advice)
    assert str(error) == "seed: got -1; expected a whole number." + (" Do that." if advice else "")
    assert (error.argument, error.got, error.expected, error.advice) == ("seed", -1, "a whole number", advice)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_error_survives_the_way_between_processes(kind: type[MiniBertError], copied: object) -> None:
    error = kind("x", got={"a": 1}, expected="nothing", advice="Leave it.")
    same = copied(error)  # type: ignore[operator]
    assert type(same) is kind
    assert str(same) == str(error)
    assert same.argument == "x"


def test_an_error_that_holds_what_cannot_be_pickled_survives_too() -> None:
    error = pickle.loads(pickle.dumps(InvalidInputError("x", got=lambda: None, expected="a number")))
    assert "x: got <function" in str(error)


def test_nearest() -> None:
    names = ["brown", "novels", "enwiki-2018"]
    assert nearest("novles", names) == "Did you mean 'novels'?"
    assert nearest("enwiki", iter(names)) == "Did you mean 'enwiki-2018'?"
    assert nearest("qqq", names) == "Choices: brown, enwiki-2018, novels."
    assert nearest("", []) == "Choices: ."
