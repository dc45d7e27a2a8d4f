"""A study's file → a study of which every setting holds, before anything runs; `--quick` makes a small one of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mini_bert.config.plain_yaml import read_document
from mini_bert.config.schema import Config
from mini_bert.errors import ConfigError, nearest
from mini_bert.studies.keys import key_of
from mini_bert.studies.pieces import config_of, merged, pieces_of
from mini_bert.studies.schema import Budget, Start, Study

_CATALOGUE = Path(__file__).with_name("catalogue")
_QUICK_PIECES, _QUICK_SECONDS, _QUICK_STEPS = 3, 0.3, 12
_SAME_FOR_ALL = {
    "data": ("corpus", "held_out_fraction", "held_out_rows"),
    "tokenizer": ("vocab_file", "lowercase", "strip_accents", "min_frequency"),
    "evaluation": ("batch_size", "mask_seed"),
    "model": ("vocab_size", "max_position_embeddings"),
}
"""Otherwise the pieces could not be scored on the same held-out masks."""


def study_names() -> list[str]:
    """The studies that come with the package."""
    return sorted(path.stem for path in _CATALOGUE.glob("*.yaml"))


def read_study(source: str, *, quick: bool = False) -> Study:
    """A study from a file, or by the name of one that comes with the package; all of it is validated.

    Args:
        source: a path or a name.
        quick: a tiny model, a few steps, at most three pieces and two seeds, on the machine's own documentation if the
            corpus is not made of files.

    Raises:
        ConfigError: there is no such study, or anything in it cannot be: a setting that does not exist, a value out of
            bounds, pieces that could not be scored alike.
    """
    path = Path(source)
    name = path.name.removesuffix(".yaml")
    if not path.is_file() and name in study_names():
        path = _CATALOGUE / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(source, got="no such file or study", expected="a study", advice=nearest(name, study_names()))
    values = {str(key).replace("-", "_"): value for key, value in read_document(path).values.items()}
    try:
        study = Study(**values)
        validate(study)
        if quick:
            study = made_quick(study)
            validate(study)
    except ConfigError as error:
        raise ConfigError(
            f"{error.argument} in {source}", got=error.got, expected=error.expected, advice=error.advice
        ) from None
    return study


def made_quick(study: Study) -> Study:
    """The study with a tiny model and a few steps, and the first pieces that differ even so."""
    pieces = pieces_of(study)
    files = all(Path(name).suffix or "*" in name or "/" in name for name in study.corpus)
    budget = Budget(steps=_QUICK_STEPS) if study.budget.minutes is None else Budget(minutes=_QUICK_SECONDS / 60)
    quick = study.model_copy(
        update={
            "name": f"{study.name}-quick",
            "extends": (*study.extends, "training/debugging"),
            "corpus": study.corpus if files else ("python-docs",),
            "grid": {},
            "trials": min(study.trials, 4),
            "budget": budget,
            "seeds": study.seeds[:2],
            "start": study.start and Start(steps=_QUICK_STEPS),
            "evaluations": 2,
            "quick": True,
        }
    )
    chosen: dict[str, str] = {}
    for label in [study.baseline, *(label for label in pieces if label != study.baseline)]:
        if len(chosen) < _QUICK_PIECES:
            chosen.setdefault(key_of(_config(quick, f"pieces.{label}", pieces[label].settings)), label)
    return quick.model_copy(update={"pieces": {label: pieces[label] for label in chosen.values()}})


def validate(study: Study) -> None:
    """Raise ConfigError for whatever cannot be; names the piece."""
    pieces = pieces_of(study)
    _refuse_what_the_study_sets("settings", study.settings)
    if study.baseline not in pieces:
        raise ConfigError(
            "baseline", got=repr(study.baseline), expected="a piece", advice=nearest(study.baseline, pieces)
        )
    base = _config(study, f"pieces.{study.baseline}", pieces[study.baseline].settings)
    labels: dict[str, str] = {}
    for label, piece in pieces.items():
        config = _config(study, f"pieces.{label}", piece.settings)
        _comparable(config, base, f"pieces.{label}")
        same = labels.setdefault(key_of(config), label)
        if same != label:
            raise ConfigError(
                f"pieces.{label}",
                got=f"the same settings as {same}",
                expected="settings that differ from those of every other piece",
                advice="They would be one trial under two labels.",
            )
    for name, allowed in study.search.items():
        values = allowed.choices or (allowed.low, allowed.high)
        for value in values:
            value = int(value) if allowed.integer and not allowed.choices else value
            _comparable(_config(study, f"search.{name}", {name: value}), base, f"search.{name}")
    if study.search and study.budget.minutes is not None and not study.quick:
        raise ConfigError(
            "budget.minutes", got="minutes beside a search", expected="steps", advice="The clock knows only pieces."
        )


def _refuse_what_the_study_sets(place: str, settings: Mapping[str, Any]) -> None:
    chosen = {name for name in merged(settings) if name in ("train.steps", "train.minutes") or name.startswith("run.")}
    if chosen:
        raise ConfigError(
            f"{place}.{sorted(chosen)[0]}",
            got="a setting",
            expected="none",
            advice="The study's budget and seeds say it.",
        )


def _config(study: Study, place: str, settings: Mapping[str, Any]) -> Config:
    _refuse_what_the_study_sets(place, settings)
    try:
        return config_of(study, settings)
    except ConfigError as error:
        raise ConfigError(
            f"{place}: {error.argument}", got=error.got, expected=error.expected, advice=error.advice
        ) from None


def _comparable(config: Config, base: Config, place: str) -> None:
    for section, names in _SAME_FOR_ALL.items():
        for name in names:
            value, expected = getattr(getattr(config, section), name), getattr(getattr(base, section), name)
            if value != expected:
                raise ConfigError(
                    f"{place}: {section}.{name}",
                    got=repr(value),
                    expected=f"{expected!r}, as the baseline has it",
                    advice="All pieces are scored on the same held-out masks.",
                )
