"""A study → its pieces, and each piece's configuration."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from mini_bert.config.load import load_config, one_line
from mini_bert.config.schema import Config
from mini_bert.studies.schema import Piece, Study

_ANY_STEPS = 1000
"""Of a configuration that is only looked at: a trial has its own."""


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
    return load_config(study.extends, merged(study.settings, {"data.corpus": study.corpus}, settings, over))


def merged(*layers: Mapping[str, Any]) -> dict[str, object]:
    """Settings, later over earlier, all by `section.setting`."""
    flat: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            nested = isinstance(value, Mapping) and "." not in key
            pairs = {f"{key}.{name}": inner for name, inner in value.items()} if nested else {key: value}
            flat |= {name.replace("-", "_"): inner for name, inner in pairs.items()}
    return flat
