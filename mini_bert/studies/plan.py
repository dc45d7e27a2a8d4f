"""A study's file → every trial's configuration, all validated before anything runs.

A trial is known by its key: a hash of all its settings that are not defaults. Whatever changes a setting, or the number
of steps, makes it another trial; what was finished under the same key is never trained again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mini_bert.config.load import load_config, one_line
from mini_bert.config.plain_yaml import read_document
from mini_bert.config.schema import Config
from mini_bert.errors import ConfigError, nearest
from mini_bert.studies.schema import FROM_NOTHING, START, Budget, Measure, Piece, Start, Study
from mini_bert.training.first_model import FIRST_VALUES, differing

_CATALOGUE = Path(__file__).with_name("catalogue")
_QUICK_PIECES, _QUICK_SECONDS, _QUICK_STEPS = 3, 0.3, 12
START_SEED = 1_000_003
_SAVES = 8
_MOST_LOGS = 100
_ANY_STEPS = 1000
"""Of a configuration that is only looked at: a trial has its own."""
_SAME_FOR_ALL = {
    "data": ("corpus", "held_out_fraction", "held_out_rows"),
    "tokenizer": ("vocab_file", "lowercase", "strip_accents", "min_frequency"),
    "evaluation": ("batch_size", "mask_seed"),
    "model": ("vocab_size", "max_position_embeddings"),
}
"""Otherwise the pieces could not be scored on the same held-out masks."""

_TIMELESS = {
    "train": {
        *("lr", "schedule", "warmup_ratio", "warmup_steps", "min_lr_ratio", "power", "decay_ratio"),
        *("max_grad_norm", "adaptive_clip", "save_every", "evaluate_every", "log_every"),
    },
    "optimizer": {"beta1", "beta2", "eps", "weight_decay", "momentum", "lookahead_alpha"},
    "model": {*FIRST_VALUES},
    "masking": {"mask_share", "random_share"},
    "run": {"seed"},
}
"""Settings that cannot change what a step computes, and so not how long it takes."""

Begins = Literal["nothing", "start"]


class Planned(NamedTuple):
    """A trial."""

    key: str
    piece: str
    seed: int
    steps: int
    begins: Begins
    config: Config

    @property
    def run_name(self) -> str:
        """Its folder among the study's runs."""
        return f"{re.sub(r'[^a-z0-9]+', '-', self.piece.lower()).strip('-')[:40]}-{self.seed}-{self.key[:8]}"


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


def pieces_of(study: Study) -> dict[str, Piece]:
    """All pieces that are known beforehand: the written ones, and one for each point of the grid."""
    pieces = dict(study.pieces)
    for values in itertools.product(*study.grid.values()) if study.grid else ():
        settings = dict(zip(study.grid, values, strict=True))
        pieces[label_of(settings)] = Piece(settings=settings, why="A point of the grid.")
    return pieces


def baseline_of(study: Study) -> Piece:
    """The piece that the others are compared with."""
    return pieces_of(study)[study.baseline]


def baseline_config(study: Study) -> Config:
    """The baseline's configuration, without budget and seed."""
    return config_of(study, baseline_of(study).settings)


def label_of(settings: Mapping[str, Any]) -> str:
    """`{"train.lr": 1e-3, "train.batch_size": 64}` in short.

    >>> label_of({"train.lr": 0.001, "train.batch_size": 64})
    'lr 0.001, batch_size 64'
    """

    def short(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else one_line(value)

    return ", ".join(f"{name.rpartition('.')[2].replace('-', '_')} {short(value)}" for name, value in settings.items())


def config_of(study: Study, settings: Mapping[str, Any], **more: object) -> Config:
    """The configuration of settings over the study's base; `train__steps=100` sets what is not the piece's to choose.

    Raises:
        ConfigError: a setting is unknown, of a wrong type or out of bounds.
    """
    over: dict[str, object] = {"train.steps": _ANY_STEPS, "train.minutes": None}
    over |= {name.replace("__", "."): value for name, value in more.items()}
    return load_config(study.extends, _merged(study.settings, {"data.corpus": study.corpus}, settings, over))


def _merged(*layers: Mapping[str, Any]) -> dict[str, object]:
    """Settings, later over earlier, all by `section.setting`."""
    flat: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            nested = isinstance(value, Mapping) and "." not in key
            pairs = {f"{key}.{name}": inner for name, inner in value.items()} if nested else {key: value}
            flat |= {name.replace("-", "_"): inner for name, inner in pairs.items()}
    return flat


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
    chosen = {name for name in _merged(settings) if name in ("train.steps", "train.minutes") or name.startswith("run.")}
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


def begins_from(study: Study, config: Config, base: Config) -> Begins:
    """Whether a piece can begin from the given weights: it computes the same of them, and draws none of its own."""
    if study.start is None or differing(config.model, base.model) is not None:
        return "nothing"
    drawn = any(getattr(config.model, name) != getattr(base.model, name) for name in FIRST_VALUES)
    return "nothing" if drawn else "start"


def all_pieces(study: Study) -> dict[str, Piece]:
    """The pieces, and the baseline from nothing where some piece cannot begin from the study's start."""
    pieces = pieces_of(study)
    if study.start is not None:
        base = baseline_config(study)
        configs = [config_of(study, piece.settings) for piece in pieces.values()]
        if any(begins_from(study, config, base) == "nothing" for config in configs):
            why = "What pieces that cannot begin from the given weights are compared with."
            pieces[study.baseline + FROM_NOTHING] = Piece(settings=baseline_of(study).settings, why=why)
    return pieces


def compared_with(study: Study, piece: str, begins: Begins) -> str:
    """The piece whose results a piece's are compared with."""
    return study.baseline + (FROM_NOTHING if study.start is not None and begins == "nothing" else "")


def plan_trial(
    study: Study, piece: str, settings: Mapping[str, Any], seed: int, steps: int, start: tuple[str, str] | None
) -> Planned:
    """One trial's configuration.

    Args:
        study: what it belongs to.
        piece: its label.
        settings: over the base's.
        seed: of every random draw.
        steps: its budget.
        start: path of the given weights, and what names them in the key.
    """
    base = baseline_config(study)
    config = config_of(study, settings)
    begins: Begins = "nothing" if piece.endswith(FROM_NOTHING) else begins_from(study, config, base)
    given = start if begins == "start" else None
    config = config_of(
        study,
        settings,
        train__steps=steps,
        train__evaluate_every=-(-steps // study.evaluations),
        train__save_every=-(-steps // _SAVES),
        train__log_every=min(config.train.log_every, max(1, steps // _MOST_LOGS)),
        run__seed=seed,
        run__start=given and given[0],
    )
    key = key_of(config, given[1] if given else "", study.measure)
    return Planned(key, piece, seed, steps, begins, config)


def plan_start(study: Study) -> Planned | None:
    """The training that gives the weights to begin from; None where there is none, or it is there already."""
    if study.start is None or study.start.steps is None:
        return None
    settings = baseline_of(study).settings
    to_its_end = study.model_copy(update={"measure": Measure()})
    planned = plan_trial(to_its_end, START + FROM_NOTHING, settings, START_SEED, study.start.steps, None)
    return planned._replace(piece=START)


def key_of(config: Config, start: str = "", measure: Measure | None = None) -> str:
    """The hash of what a trial is: all settings that are not defaults, but for where and how it runs.

    And where it ends, if it ends early: where the time until a loss is what is measured.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True)
    run = {name: value for name, value in settings.pop("run", {}).items() if name == "seed"}
    ends = {}
    if measure is not None and measure.first_below is not None:
        ends["measure"] = measure.model_dump(mode="json")
    return hash_of({**settings, "run": run, "start": start, **ends})


def key_of_piece(study: Study, settings: Mapping[str, Any]) -> str:
    """The hash of what a piece's time per step depends on: neither of seed and budget, nor of mere numbers."""
    values = config_of(study, settings).model_dump(mode="json", exclude_defaults=True)
    timed = {
        section: {name: value for name, value in fields.items() if name not in _TIMELESS.get(section, ())}
        for section, fields in values.items()
    }
    return hash_of({section: fields for section, fields in timed.items() if fields})


def hash_of(value: object) -> str:
    """The hash of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
