"""`mini-bert pretrain`: from text to a trained model, and what it has learned."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mini_bert.cli import DONE, code_of_signal
from mini_bert.cli.options import ConfigOptions, Flag, beginning_from, option
from mini_bert.cli.results import command, print_json, print_result

if TYPE_CHECKING:
    from mini_bert.config.schema import Config, ModelConfig
    from mini_bert.training.ranks import Ranks
    from mini_bert.training.report import PretrainResult


def pretrain(
    options: Annotated[ConfigOptions, beginning_from("training/pretraining")],
    *,
    resume: Annotated[str | None, option("go on with --run NAME (auto), or from a checkpoint", "auto|PATH")] = None,
    json: Flag = False,
) -> int:
    """Pre-train a model on any text by predicting hidden pieces, then show what it has learned.

    Begins from the preset training/pretraining, whose values are the defaults below (10 minutes); --config, then single
    settings, change it. Ctrl-C saves and says how to go on.

    Examples:
      mini-bert pretrain --run first
      mini-bert pretrain --corpus enwiki-2018 --corpus novels=2 --train.minutes 60
      mini-bert pretrain --corpus 'my/*.txt' --config model/small --train.batch-size 128 --train.lr 2e-3
      mini-bert pretrain --run first --resume auto
      mpirun -n 4 mini-bert pretrain --run first --resume auto  # the same bits on 1 to train.shards processes

    Args:
        json: the result as JSON.
    """
    beneath = _resumed_config(options, resume) if resume else None
    overrides = {"run.resume": resume} if resume else {}
    return train_and_show(lambda: options.load(beneath or "training/pretraining", overrides=overrides), json=json)


def train_and_show(config: Callable[[], Config], *, json: bool) -> int:
    """Tokenise, train with a display, and print what came out.

    Of the ranks of an MPI job, the first one reads the configuration, and speaks.
    """
    from mini_bert.training.ranks import ranks_of_this_job

    ranks = ranks_of_this_job()
    with ranks.together():
        return _train_and_show(ranks.on_first(config), ranks, json=json)


def _train_and_show(config: Config, ranks: Ranks, *, json: bool) -> int:
    from mini_bert.cli.progress import preparation
    from mini_bert.cli.training_display import training_display
    from mini_bert.evaluation.closing_report import closing_report, keep_report
    from mini_bert.evaluation.tasks import HeldOut
    from mini_bert.training.allocator import keep_freed_memory
    from mini_bert.training.memory import choose_in_flight, require_room
    from mini_bert.training.pretrain import open_in_turn, pretrain
    from mini_bert.training.resuming import find_beginning, run_folder

    keep_freed_memory()  # before the display's thread has memory of its own, which training could not use
    if config.run.name or config.run.resume:  # a name that is taken is refused now, not after reading the texts
        ranks.on_first(lambda: find_beginning(config, run_folder(config)) and None)
    in_flight = choose_in_flight(config, config.run.threads or ranks.cores, ranks.size)
    require_room(config, in_flight, ranks.size)  # nor what cannot fit
    with preparation() if ranks.first else nullcontext() as progress:
        tokens = open_in_turn(config, ranks, progress=progress)
    held_out = HeldOut(tokens.held_out, config, tokens.tokenizer) if ranks.first else None
    with training_display() if ranks.first else nullcontext() as display:
        result = pretrain(
            config,
            tokens=tokens,
            evaluate=lambda model: held_out(model) if held_out else {},
            report=display,
            ranks=ranks,
        )
    if display is None:
        return code_of_signal(result.signal) if result.signal is not None else DONE
    if result.interrupted:
        return _interrupted(result, config)
    if "mlm" not in result.model.config.heads:
        return _without_masks(result, json=json)
    try:
        with preparation() as progress:
            measured = closing_report(result, config, tokens, in_flight, progress)
    except KeyboardInterrupt:
        hint = f"score it with: {command()} evaluate {result.run} --only masked_lm"
        print(f"\nTrained, and saved in {result.checkpoint}; {hint}", file=sys.stderr)
        raise
    print_result(measured, json=json)
    if not json:
        _print_clozes(measured["clozes"])
        _print_next(result, config, _example(config, measured["clozes"]))
    keep_report(measured, result.run)
    return DONE


def _without_masks(result: PretrainResult, *, json: bool) -> int:
    """Print the last scores of a model that fills no masks; the report is about masks."""
    scores = {name: value for name, value in result.evaluation.items() if name not in ("kind", "step")}
    if json:
        where = {"run": result.run, "checkpoint": result.checkpoint, "step": result.step}
        print_json({**where, "sha256": result.sha256, "evaluation": scores})
        return DONE
    for name, value in scores.items():
        print(f"{name.replace('_', ' '):<28}{value:.4f}")
    print(f"\nThe run is in {result.run}, its last checkpoint in {result.checkpoint}")
    return DONE


def _resumed_config(options: ConfigOptions, resume: str) -> str | None:
    """The configuration that the run was begun with: a resumed run is the same run."""
    if resume == "auto":
        run = Path(options.chosen("run", "directory") or "runs", options.chosen("run", "name") or "")
        if not run.exists():
            print(f"There is no {run} yet: it begins.", file=sys.stderr)
        path = run / "config.yaml"
    else:
        from mini_bert.training.resuming import home_of

        path = Path(home_of(Path(resume)) or resume, "config.yaml")
    return str(path) if path.is_file() else None


def _interrupted(result: PretrainResult, config: Config) -> int:
    assert result.signal is not None
    where = f" --run.directory {config.run.directory}" if config.run.directory != "runs" else ""
    print(
        f"\nStopped after step {result.step:,} of {result.steps:,}; all is saved in {result.checkpoint}\n"
        f"Go on with: {command()} pretrain --run {result.run.name}{where} --resume auto",
        file=sys.stderr,
    )
    return code_of_signal(result.signal)


def _print_clozes(clozes: list[dict[str, Any]]) -> None:
    from mini_bert.reports.quantities import percent

    if clozes:
        print("Held-out sentences with a word hidden")
    for cloze in clozes:
        guesses = " · ".join(f"{piece['token']} {percent(piece['probability'])}" for piece in cloze["filled"])
        print(f"  {cloze['text']}\n      hidden: {cloze['hidden']}    model: {guesses}")


def _example(config: Config, clozes: list[dict[str, Any]]) -> str:
    """A sentence with [MASK] that suits the texts."""
    if config.data.corpus == ("python-docs",) or not clozes:
        return "Return the [MASK] of the list."
    return str(clozes[0]["text"])


def _opens(model: ModelConfig) -> str:
    """Who opens a checkpoint of such a model."""
    from mini_bert.interop.bert_config import FAITHFUL, architecture_of, model_type

    if model_type(model) != FAITHFUL:
        return "a model folder for Mini-BERT alone: transformers has no such variant, and refuses it"
    if architecture_of(model.heads) is None:
        return "a Hugging Face model folder: transformers opens its encoder, Mini-BERT its heads too"
    return "a Hugging Face model folder: transformers opens it as it is"


def _print_next(result: PretrainResult, config: Config, example: str) -> None:
    name = result.run.name if config.run.directory == "runs" else result.run
    program = command()
    print(
        f"""
The run is in {result.run}, its last checkpoint in {result.checkpoint}
({_opens(result.model.config)}). SHA-256 of parameters and moments:
{result.sha256}

What to try next
  {program} fill-mask {name} {shlex.quote(example)}
  {program} tokenizer explain {name} 'unbelievable'
  {program} evaluate {name} --overfit-one-batch       # can it learn one batch by heart? A test of the machinery
  {program} pretrain --run longer --train.minutes 60
  {program} data list                                # other texts: {program} pretrain --corpus novels"""
    )
