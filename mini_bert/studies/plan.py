"""A piece, a seed and a budget → a trial: its whole configuration, and what it begins from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from mini_bert.config.schema import Config
from mini_bert.studies.keys import key_of
from mini_bert.studies.pieces import baseline_config, baseline_of, config_of, pieces_of
from mini_bert.studies.schema import FROM_NOTHING, START, Measure, Piece, Study
from mini_bert.training.first_model import FIRST_VALUES, differing

START_SEED = 1_000_003
_SAVES = 8
_MOST_LOGS = 100

Begins = Literal["nothing", "start"]


class Planned(NamedTuple):
    """A trial."""

    key: str
    piece: str
    settings: Mapping[str, Any]
    """The piece's, over the base's."""
    seed: int
    steps: int
    begins: Begins
    config: Config

    @property
    def run_name(self) -> str:
        """Its folder among the study's runs."""
        return f"{re.sub(r'[^a-z0-9]+', '-', self.piece.lower()).strip('-')[:40]}-{self.seed}-{self.key[:8]}"


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
    key = key_of(config, given[1] if given else "", study.measure, base)
    return Planned(key, piece, settings, seed, steps, begins, config)


def plan_start(study: Study) -> Planned | None:
    """The training that gives the weights to begin from; None where there is none, or it is there already."""
    if study.start is None or study.start.steps is None:
        return None
    settings = baseline_of(study).settings
    to_its_end = study.model_copy(update={"measure": Measure()})
    planned = plan_trial(to_its_end, START + FROM_NOTHING, settings, START_SEED, study.start.steps, None)
    return planned._replace(piece=START)
