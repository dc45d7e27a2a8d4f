"""What is printed as JSON is JSON, whatever was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mini_bert.cli.results import print_json


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": [1.5, math.inf, (math.nan, -math.inf)], "b": {"c": math.nan, "d": True}, "path": Path("x")}

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    print_json(value)
    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"a": [1.5, None, [None, None]], "b": {"c": None, "d": True}, "path": "x"}
