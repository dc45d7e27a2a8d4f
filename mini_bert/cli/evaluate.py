"""`mini-bert evaluate RUN`: what has it learnt, beside what can be had without it?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from mini_bert.cli import CHECK_FAILED, DONE, code_of_signal
from mini_bert.cli.models import find_model, require_tokenizer, trained_by
from mini_bert.cli.options import ConfigOptions, Flag, option, refuse_beside
from mini_bert.cli.results import print_result, require_one_form, say
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.assessment.parts import Part
    from mini_bert.config.schema import Config
    from mini_bert.model.bert import MiniBERT

_OVERFIT_STEPS = 1000
"""Updates after which a batch counts as not learned; the smallest models need the most."""


def evaluate(
    model: Positional[Annotated[str, arg(metavar="RUN")]],
    options: Annotated[ConfigOptions, arg(name="")],
    *,
    quick: Flag = False,
    only: Annotated[str | None, option("these parts alone, whole: masked_lm,pos,sst2", "PART,…")] = None,
    compare: Annotated[str | None, option("another model beside it", "RUN")] = None,
    milestones: Flag = False,
    task_file: Annotated[
        Path | None, option("instead, score a fine-tuned model on a labelled .tsv, .csv or .jsonl", "FILE")
    ] = None,
    overfit_one_batch: Flag = False,
    again: Flag = False,
    json: Flag = False,
    markdown: Flag = False,
    latex: Flag = False,
) -> int:
    """Measure what a model has learnt: one table, with what each figure has to be compared with.

    RUN is a run's name, the path of a checkpoint, or any Hugging Face folder of a BERT. Hidden pieces and perplexity
    are those of the text that the run held out, or of all of the one that --corpus names. Grammar, parts of speech,
    meaning, facts and fine-tuning are of published sets (mini-bert data list), fetched when they are needed. What was
    measured of a model is kept, so a second call is at once, and one that was stopped goes on.

    Examples:
      mini-bert evaluate demo --quick
      mini-bert evaluate demo --only masked_lm
      mini-bert evaluate demo --only pos,blimp --json
      mini-bert evaluate demo --compare first --quick
      mini-bert evaluate demo --corpus held_out.txt --only masked_lm,perplexity
      mini-bert evaluate reference --milestones --only masked_lm,pos,blimp
      mini-bert evaluate sentiment --task-file reviews.tsv
      mini-bert evaluate demo --overfit-one-batch

    Args:
        model: which model.
        quick: a sample of the sets, without breakdown, agreement and four of the fine-tunings, in less than a minute.
        overfit_one_batch: instead, whether a fresh model of this shape learns one batch by heart; exit code 1 if not.
        milestones: also the models that the run kept on its way (train.milestones), side by side.
        again: measure also what is known.
        json: everything as JSON.
        markdown: tables in Markdown.
        latex: tables in LaTeX.
    """
    from mini_bert.assessment.parts import PARTS
    from mini_bert.assessment.suite import chosen_parts, history
    from mini_bert.assessment.suite import compare as compared
    from mini_bert.evaluation.finetuning import Interrupted

    form = {"json": json, "markdown": markdown, "latex": latex}
    require_one_form(**form)
    instead = {"--only": only is not None, "--quick": quick, "--again": again, "--milestones": milestones}
    instead["--compare"] = compare is not None
    if task_file is not None:
        refuse_beside("--task-file", {**instead, "--overfit-one-batch": overfit_one_batch})
        return _labelled(model, task_file, form)
    if overfit_one_batch:
        refuse_beside("--overfit-one-batch", {**instead, "--markdown": markdown, "--latex": latex})
        return _overfit(model, options, json)
    if milestones:
        refuse_beside("--milestones", {"--compare": compare is not None})
    names = [name.strip() for name in (only or "").split(",") if name.strip()]
    if only is not None and not names:
        raise InvalidInputError("--only", got=repr(only), expected=f"some of {', '.join(PARTS)}")
    parts = chosen_parts(names, quick)
    if options.corpus and not any(part.text for part in parts):
        raise InvalidInputError(
            "--corpus", got=f"it beside --only {only}", expected="a part that reads running text, such as masked_lm"
        )
    measured = partial(_assessed, options=options, parts=parts, quick=quick, again=again)
    try:
        if milestones:
            result = history({step: measured(str(folder)) for step, folder in _steps_of(model).items()})
        elif compare is not None:
            _subject(compare, options, "--compare")  # now, and not after what may take an hour
            result = compared([measured(model), measured(compare)])
        else:
            result = measured(model) | ({"whole": True} if names else {})
    except Interrupted as stopped:
        print("\nStopped; all is saved. The same command goes on.", file=sys.stderr)
        return code_of_signal(stopped.signal)
    print_result(result, **form)
    return DONE


def _require_something(assessment: dict[str, Any]) -> None:
    """A table without a line is no answer."""
    parts = assessment["parts"]
    if all("left_out" in part for part in parts):
        names = ", ".join(part["name"] for part in parts)
        raise InvalidInputError(
            assessment["model"]["name"],
            got=f"a model of which nothing can be measured of {names}",
            expected="one of which something can",
            advice=parts[0]["left_out"],
        )


def _assessed(name: str, options: ConfigOptions, parts: Sequence[Part], *, quick: bool, again: bool) -> dict[str, Any]:
    from mini_bert.assessment.subject import Subject
    from mini_bert.assessment.suite import assess
    from mini_bert.cli.progress import preparation
    from mini_bert.config.load import load_config

    folder, bert, config = _subject(name, options)
    recipe = trained_by(folder)
    own = None if recipe is None else load_config([str(recipe)]).data
    asked = bool(options.corpus) or "corpus" in options.settings.get("data", {})
    with preparation() as progress:
        subject = Subject(
            name, folder, bert, config, own, quick, progress, config.run.threads, asked or own is not None, again
        )
        if asked and any(part.text for part in parts):
            _ = subject.tokens  # a text that was asked for and is not to be had: said now, and not among the results
        found = assess(subject, parts, done=lambda title, seconds: say(f"{title}: {seconds:.0f} s"))
    _require_something(found)
    return found


def _steps_of(name: str) -> dict[int, Path]:
    """The models that a run kept on its way, and its newest."""
    from mini_bert.training.checkpoint_folders import step_of
    from mini_bert.training.milestones import milestones

    newest = find_model(name)
    found = milestones(newest.parent.parent) if newest.parent.name == "checkpoints" else {}
    if not found:
        raise InvalidInputError(
            "--milestones",
            got=f"{name}, of which no model was kept on the way",
            expected="a run with train.milestones",
            advice="Train one: mini-bert pretrain --train.milestones 0 100 1000.",
        )
    return dict(sorted({**found, step_of(newest): newest}.items()))


def _labelled(name: str, file: Path, form: dict[str, bool]) -> int:
    from mini_bert.evaluation.task_file import evaluate_task_file
    from mini_bert.model.bert import MiniBERT

    print_result(evaluate_task_file(MiniBERT.from_pretrained(find_model(name)), file), **form)
    return DONE


def _subject(name: str, options: ConfigOptions, argument: str = "RUN") -> tuple[Path, MiniBERT, Config]:
    """A model, its folder, and the configuration of its run; `argument` is what an error names."""
    from mini_bert.model.bert import MiniBERT
    from mini_bert.training.first_model import drawn_by

    folder = find_model(name, argument)
    bert = MiniBERT.from_pretrained(folder)
    require_tokenizer(bert, folder, argument)
    config = _config_of(folder, options)
    for setting in options.settings.get("model", {}):
        asked, found = getattr(config.model, setting), getattr(bert.config, setting)
        if asked != found:
            raise InvalidInputError(
                f"--model.{setting.replace('_', '-')}",
                got=asked,
                expected=f"{found}, as {folder} has it",
                advice="Leave it out.",
            )
    bert = drawn_by(bert, config.model)
    return folder, bert, config.model_copy(update={"model": bert.config})


def _config_of(folder: Path, options: ConfigOptions) -> Config:
    """The configuration by which a model was trained, or the default one, with the options on top."""
    recipe = trained_by(folder)
    return options.load(*[] if recipe is None else [str(recipe)])


def _overfit(name: str, options: ConfigOptions, json: bool) -> int:
    from mini_bert.cli.progress import preparation
    from mini_bert.config.schema import CurriculumConfig, TasksConfig
    from mini_bert.data.batches import BatchStream
    from mini_bert.data.tokens import open_tokens
    from mini_bert.evaluation.overfit import overfit_one_batch
    from mini_bert.model.tasks import with_task_heads

    _, bert, config = _subject(name, options)
    with preparation() as progress:
        V = config.model.vocab_size
        tokens = open_tokens(config.data, config.tokenizer, V, tokenizer=bert.tokenizer, progress=progress)
        config = config.model_copy(update={"curriculum": CurriculumConfig()})  # one batch has no order
        if not config.tasks.masked_lm:  # masks are what is learned by heart
            config = with_task_heads(config.model_copy(update={"tasks": TasksConfig()}))
        result = overfit_one_batch(
            config,
            BatchStream(tokens.train, config, tokens.tokenizer).batch(0),
            _OVERFIT_STEPS,
            threads=config.run.threads,
            progress=lambda done, loss, accuracy: progress("learning one batch by heart", done, _OVERFIT_STEPS),
        )
    print_result(result.to_dict(), json=json)
    return DONE if result.passed else CHECK_FAILED
