"""The guide names each setting of `health` with the default that it has."""

from __future__ import annotations

from pathlib import Path

from mini_bert.config.schema import HealthConfig
from mini_bert.training.health import EXPLODED, FEWEST, FLOOR_SHARE, PASSED_OVER, REMEMBERED, WINDOW

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "health.md").read_text(encoding="utf-8")


def test_settings_stand_there_with_their_defaults() -> None:
    rows = [line.split("|") for line in GUIDE.splitlines() if line.startswith("| `health.")]
    told = {row[1].strip(" `").removeprefix("health."): row[2].strip() for row in rows}
    defaults = HealthConfig().model_dump(mode="json")
    assert told == {name: "null" if value is None else str(value) for name, value in defaults.items()}


def test_constants_are_those_of_the_code() -> None:
    assert (WINDOW, FEWEST, EXPLODED, PASSED_OVER, REMEMBERED, FLOOR_SHARE) == (50, 20, 3.0, 20, 20, 0.01)
    for words in ("the 50 losses", "20 losses have been seen", "three times", "with 20 more", "last twenty steps"):
        assert words in " ".join(GUIDE.split()), words
