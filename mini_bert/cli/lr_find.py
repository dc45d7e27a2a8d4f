"""`mini-bert lr-find [MODEL]`: which learning rate?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from mini_bert.atomic_files import require_place
from mini_bert.cli import CHECK_FAILED, DONE
from mini_bert.cli.models import find_model
from mini_bert.cli.options import ConfigOptions, Flag, beginning_from, option
from mini_bert.cli.results import print_json
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.training.lr_finder import LearningRateCurve


def lr_find(
    options: Annotated[ConfigOptions, beginning_from("training/pretraining")],
    model: Positional[Annotated[str | None, arg(metavar="[MODEL]", help_behavior_hint="")]] = None,
    *,
    first: Annotated[float, arg(name="from", help="the lowest rate", metavar="RATE")] = 1e-6,
    last: Annotated[float, arg(name="to", help="the highest rate", metavar="RATE")] = 1.0,
    steps: Annotated[int, arg(help="updates between them", metavar="INT")] = 200,
    out: Annotated[str | None, option("folder for learning_rate.json and a picture", "FOLDER")] = None,
    json: Flag = False,
) -> int:
    """Raise the learning rate step by step on a copy of a training, draw the loss over it, propose a rate.

    Batches, shards, clipping and optimiser are those of the training; nothing of it is changed. Without MODEL it is a
    training before its first step, as --config and the settings say; MODEL is a run's name or a checkpoint to look on
    from. Exit code 1 where the curve does not speak for any rate.

    Examples:
      mini-bert lr-find
      mini-bert lr-find --config model/small --corpus enwiki-2018 --steps 400
      mini-bert lr-find --optimizer.name muon --from 1e-5 --to 1 --out results
      mini-bert lr-find first --to 0.1

    Args:
        model: a training under way.
        json: the curve and the proposal as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.config.no_effect import without_effect
    from mini_bert.data.tokens import open_tokens
    from mini_bert.reports.drawing import require_drawable
    from mini_bert.reports.learning_rate_curve import to_dict, write
    from mini_bert.training.lr_finder import Point, search

    if out is not None:
        require_drawable()
        require_place(Path(out) / "learning_rate.json")
    checkpoint = None if model is None else find_model(model)
    settings = None if checkpoint is None else _settings_of(checkpoint)
    if checkpoint is not None and settings is None:
        raise InvalidInputError(
            "MODEL",
            got=f"{checkpoint}, of whose training nothing is known",
            expected="a run, or its checkpoint",
        )
    config = options.load(settings or "training/pretraining")
    for note in without_effect(config):
        print(f"Note: {note}", file=sys.stderr)
    with preparation() as progress:
        tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size, progress=progress)

        def told(done: int, point: Point) -> None:
            progress("raising the rate", done, steps)

        curve = search(config, tokens, checkpoint, first=first, last=last, steps=steps, told=told)
    if out is not None:
        for path in write(curve, Path(out)):
            print(path, file=sys.stderr)
    if json:
        print_json(to_dict(curve))
    else:
        _print(curve, config)
    return CHECK_FAILED if curve.proposal.lr is None else DONE


def _settings_of(checkpoint: Path) -> str | None:
    """The `config.yaml` of the run that a checkpoint belongs to; None where it belongs to none."""
    from mini_bert.training.resuming import home_of

    home = home_of(checkpoint)
    return str(home / "config.yaml") if home is not None and (home / "config.yaml").is_file() else None


def _print(curve: LearningRateCurve, config: Config) -> None:
    from mini_bert.reports.learning_rate_curve import draw_text

    if len(curve.points) > 1:
        print(f"Loss over the learning rate: {config.optimizer.name}, {config.train.batch_size} rows a step\n")
        print(draw_text(curve) + "\n")
    proposal = curve.proposal
    print(f"Ended: {curve.stopped}.")
    print("No rate is proposed." if proposal.lr is None else f"Proposed: --train.lr {proposal.lr:.1e}")
    print(proposal.reason)
