"""What a study's file may say: pieces beside a baseline, at an equal budget, over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mini_bert.config.section import Integer, Real, Section, listed
from mini_bert.errors import ConfigError


def _settings(value: object) -> object:
    """Nothing beneath a heading is no settings."""
    return {} if value is None else value


START = "start"
"""Label of the training that gives the weights to begin from."""
FROM_NOTHING = ", from nothing"
"""Behind the baseline's label: the same without the given weights, for pieces that cannot begin from them."""
MOST_POINTS = 1000
"""Of a grid."""

Settings = Annotated[dict[str, Any], BeforeValidator(_settings)]
"""`{"train.lr": 1e-3}` or `{"train": {"lr": 1e-3}}`."""


class Piece(Section):
    """One of the things that are compared: settings over the base's."""

    settings: Settings = Field({}, description="what is different from the base")
    why: str = Field(min_length=1, description="one sentence: why it is in the study")


class Budget(Section):
    """What every piece gets, one of the two."""

    steps: Integer | None = Field(None, ge=1, description="the same number of steps for all")
    minutes: Real | None = Field(
        None, gt=0, description="the same time for all, by the clock of the study: steps = time / seconds a step"
    )

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("steps", got="both or neither of steps and minutes", expected="one of the two")
        return self


class Start(Section):
    """Weights that every piece begins from, its optimiser new; of the two, one."""

    steps: Integer | None = Field(None, ge=1, description="of the baseline, trained once, with a seed of its own")
    model: str | None = Field(None, description="a run, a checkpoint or a model folder")

    @model_validator(mode="after")
    def _one(self) -> Start:
        if (self.steps is None) == (self.model is None):
            raise ConfigError("steps", got="both or neither of steps and model", expected="one of the two")
        return self


class Measure(Section):
    """What decides. Curves, time and memory are recorded in any case."""

    first_below: Real | None = Field(
        None,
        gt=0,
        description="nats below a reference: a trial ends where its training loss is there, and the time until then "
        "decides; null: the held-out loss at the end decides",
    )
    reference: Literal["attention_free", "unigram"] = Field(
        "attention_free", description="loss that the pieces' frequencies reach, with or without what is left unmasked"
    )


class Range(Section):
    """What a search may choose from."""

    low: Real | None = Field(None, description="least value")
    high: Real | None = Field(None, description="greatest value")
    log: bool = Field(False, description="draw from equal ratios, not from equal differences")
    integer: bool = Field(False, description="whole numbers")
    choices: tuple[Any, ...] = Field((), description="instead of low and high: a list")

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        ends = self.low is not None and self.high is not None
        if ends == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ConfigError("low", got="neither low and high nor choices, or both", expected="one of the two")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ConfigError("low", got=self.low, expected=f"less than high, {self.high}")
            if self.log and self.low <= 0:
                raise ConfigError("low", got=self.low, expected="more than 0 on a logarithmic scale")
        return self


def _each(kind: type[Section]) -> BeforeValidator:
    """Sections by label; a message names the label."""

    def made(values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        sections = {}
        for label, value in values.items():
            if not isinstance(value, Mapping):
                raise ConfigError(str(label), got=repr(value)[:60], expected="settings beneath it")
            try:
                sections[label] = kind(**{str(key).replace("-", "_"): inner for key, inner in value.items()})
            except ConfigError as error:
                raise ConfigError(
                    f"{label}.{error.argument}", got=error.got, expected=error.expected, advice=error.advice
                ) from None
        return sections

    return BeforeValidator(made)


class Study(Section):
    """A study, as its file describes it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$", description="name of its folder and its result")
    question: str = Field(min_length=1, description="one sentence")
    notes: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field((), description="sentences under its table")
    extends: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        ("training/pretraining",), description="presets or files beneath all pieces"
    )
    settings: Settings = Field({}, description="over those, for all pieces")
    corpus: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        ("python-docs",), min_length=1, description="texts: names, files or patterns"
    )
    pieces: Annotated[dict[str, Piece], _each(Piece)] = Field({}, description="what is compared, by label")
    grid: dict[str, tuple[Any, ...]] = Field({}, description="setting → values: a piece for each combination")
    search: Annotated[dict[str, Range], _each(Range)] = Field({}, description="setting → range of a Bayesian search")
    trials: Integer = Field(20, ge=1, description="search: how many configurations are tried")
    baseline: str = Field(description="label of the piece that all others are compared with")
    budget: Budget
    seeds: tuple[Annotated[Integer, Field(ge=0, lt=2**64)], ...] = Field(
        (0, 1), min_length=1, description="of the trials of a piece"
    )
    start: Start | None = None
    measure: Measure = Measure()
    evaluations: Integer = Field(4, ge=1, le=100, description="held-out evaluations of a trial, the last at its end")
    quick: bool = Field(False, description="a tiny model and a few steps: whether it runs, not what comes out")

    @model_validator(mode="after")
    def _has_pieces(self) -> Study:
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError("seeds", got=self.seeds, expected="each seed once")
        if not self.pieces and not self.grid:
            raise ConfigError("pieces", got="none", expected="the baseline and what is compared with it")
        if any(not values for values in self.grid.values()):
            raise ConfigError("grid", got="a setting without values", expected="a list of values for each")
        points = math.prod(map(len, self.grid.values()))
        if points > MOST_POINTS:
            raise ConfigError(
                "grid",
                got=f"{points:,} combinations",
                expected=f"at most {MOST_POINTS:,}",
                advice="A search tries some.",
            )
        for setting, values in self.grid.items():
            if any(value in values[:number] for number, value in enumerate(values)):
                raise ConfigError(f"grid.{setting}", got=list(values), expected="each value once")
        for label in self.pieces:
            if not label.strip():
                raise ConfigError("pieces", got=f"the label {label!r}", expected="a label that can be read")
            if label == START or label.endswith(FROM_NOTHING):
                raise ConfigError(
                    f"pieces.{label}",
                    got="a label that the study gives itself",
                    expected=f"another one than {START!r} or '…{FROM_NOTHING}'",
                )
        if self.search and self.measure.first_below is not None:
            raise ConfigError("search", got="a search beside first_below", expected="a search for the held-out loss")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON writes them."""
        return self.model_dump(mode="json")
