"""`mini-bert finetune TASK`: teach a model the labels of texts, and see what that is worth beside its floors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from mini_bert.cli import DONE, code_of_signal
from mini_bert.cli.models import find_model, trained_by
from mini_bert.cli.options import ConfigOptions, Flag, beginning_from, option, refuse_beside, require_at_least_one
from mini_bert.cli.results import command, print_result
from mini_bert.errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from mini_bert.config.schema import Config, ModelConfig
    from mini_bert.data.task_sets.labelled import LabelledSet
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.evaluation.finetuning import Finetuning
    from mini_bert.model.bert import MiniBERT

_PRESET = "training/finetuning"
_MOST_SEEDS = 1000
_DRAWN_DEV_SHARE, _MOST_DRAWN_DEV = 0.2, 2000
"""Of a training file without a dev file beside it."""


def finetune(
    task: Positional[Annotated[str, arg(metavar="TASK")]],
    options: Annotated[ConfigOptions, beginning_from(_PRESET)],
    *,
    model: Annotated[str, option("what to begin with: a run, a folder, a name", "MODEL", name="model")] = "mini-bert",
    epochs: int = 4,
    max_samples: int | None = None,
    seeds: int = 3,
    grid: Flag = False,
    from_scratch: Flag = False,
    train_file: Path | None = None,
    dev_file: Path | None = None,
    transfer: str | None = None,
    forgetting: Flag = False,
    resume: Annotated[str | None, option("go on with the runs of --run NAME", "auto")] = None,
    json: Flag = False,
) -> int:
    """Fine-tune a model on labelled texts, through the whole encoder, and score it beside floors.

    TASK is sst2, cola, mrpc, rte or stsb, or any name beside --train-file. Files are .tsv, .csv or .jsonl with the
    columns sentence (or text), label, and for pairs sentence2; labels that are numbers with a fraction are scores.
    Epoch and, with --grid, batch and rate are chosen on a tenth of the training set; the dev set is scored once.
    Running text can be learned along: --corpus TEXT --tasks.masked-lm 1.
    Settings begin from the preset training/finetuning; the defaults below are its own.

    Examples:
      mini-bert finetune sst2 --model first --epochs 1 --max-samples 500
      mini-bert finetune sst2 --model first --run sentiment --from-scratch
      mini-bert finetune cola --model first --grid
      mini-bert finetune mine --model first --train-file mine.tsv --dev-file other.tsv
      mini-bert finetune sst2 --model first --forgetting --corpus enwiki-2018

    Args:
        task: what is learned.
        epochs: of each run.
        max_samples: learn from so many examples at most, drawn by a fixed seed.
        seeds: how many runs, with the seeds from --seed on.
        grid: first try batches of 16 and 32 rows with rates of 3e-4, 1e-4, 5e-5 and 3e-5.
        from_scratch: also train random weights, as a floor.
        train_file: learn from this file.
        dev_file: score on this file.
        transfer: also begin with the weights of another fine-tuning: a run or a folder.
        forgetting: instead, measure what is forgotten of --corpus, and what a lower rate and replay would keep.
        json: the result as JSON.
    """
    from mini_bert.cli.training_display import training_display
    from mini_bert.evaluation.finetuning import Finetuning, Interrupted, finetune_task
    from mini_bert.model.pretrained import from_pretrained
    from mini_bert.training.allocator import keep_freed_memory

    require_at_least_one("--epochs", epochs)
    require_at_least_one("--seeds", seeds)
    if seeds > _MOST_SEEDS:
        raise InvalidInputError("--seeds", got=seeds, expected=f"at most {_MOST_SEEDS:,}")
    if forgetting:
        given_besides = {"--dev-file": dev_file is not None, "--transfer": transfer is not None}
        refuse_beside("--forgetting", {"--grid": grid, "--from-scratch": from_scratch, **given_besides})
    keep_freed_memory()
    config = _config(options, task, resume, forgetting)
    train, dev = _sets(task, train_file, dev_file)
    train = train.sample(max_samples)
    folder = find_model(model, "--model")
    given = from_pretrained(folder)
    _refuse_another_shape(config, given.config, folder)
    text = _text(config, given, folder) if config.tasks.masked_lm else None
    name, first = config.run.name, config.run.seed
    try:
        experiment = Finetuning(config, given, folder, train, epochs=epochs, replay=text, display=training_display)
        if forgetting:
            assert text is not None
            result = _forgotten(experiment, config, given, text)
        else:
            other = None if transfer is None else _fitting(transfer, given)
            numbers = range(first, first + seeds)
            result = finetune_task(experiment, dev, numbers, grid=grid, from_scratch=from_scratch, transfer=other)
    except Interrupted as stopped:
        print(
            f"\nStopped; all is saved in {stopped.run}\nGo on with the same command and --run {name} --resume auto",
            file=sys.stderr,
        )
        return code_of_signal(stopped.signal)
    print_result(result, json=json)
    if not json and not forgetting:
        best = result["arms"][0]["trials"][0]["run"]
        print(
            f"The first seed's model is {best}/model, a Hugging Face folder: {command()} evaluate {best} --task-file …"
        )
    return DONE


def _forgotten(experiment: Finetuning, config: Config, given: MiniBERT, text: TokenCorpus) -> dict[str, Any]:
    """What is forgotten of the text, on batches of what is held out of it."""
    from mini_bert.assessment.forgetting_probes import forgetting_probes
    from mini_bert.data.batches import held_out_batches
    from mini_bert.evaluation.forgetting import forgetting_and_remedies
    from mini_bert.inference.tokenizer_of import tokenizer_of

    shape = config.model_copy(update={"model": given.config})
    batches = held_out_batches(text.held_out, shape, tokenizer_of(given))
    probes = forgetting_probes(
        config.run.threads, lambda name, reason: print(f"Not asked: {name}. {reason}", file=sys.stderr)
    )
    return forgetting_and_remedies(experiment, given, batches, config.run.seed, probes)


def _config(options: ConfigOptions, task: str, resume: str | None, forgetting: bool) -> Config:
    from mini_bert.training.resuming import run_folder

    if resume not in (None, "auto"):
        raise ConfigError("--resume", got=resume, expected="auto: each run goes on from its newest checkpoint")
    corpus = options.chosen("data", "corpus")
    weight = options.chosen("tasks", "masked_lm")
    if corpus and not (forgetting or weight):
        raise ConfigError(
            "--corpus", got="a text, and no weight for it", expected="--tasks.masked-lm 1 beside it, or --forgetting"
        )
    if forgetting or weight:
        if not corpus:
            raise ConfigError("--corpus", got="none", expected="the running text that is to be remembered")
        weight = weight or 1.0
    overrides: dict[str, Any] = {"tasks.masked_lm": weight or 0.0, "tasks.classification": 1.0}
    overrides["data.corpus"] = (task, *(corpus if weight else ()))
    if resume:
        overrides["run.resume"] = resume
    config = options.load(_PRESET, overrides=overrides)
    named = config.run.model_copy(update={"name": run_folder(config).name})
    return config.model_copy(update={"run": named})


def _refuse_another_shape(config: Config, found: ModelConfig, folder: Path) -> None:
    """A model is as it is: settings of another shape would be passed over in silence."""
    from mini_bert.config.load import load_config
    from mini_bert.training.first_model import FREE

    usual = load_config([_PRESET]).model
    for name in type(found).model_fields:
        asked, there = getattr(config.model, name), getattr(found, name)
        if name not in FREE and asked not in (there, getattr(usual, name)):
            raise ConfigError(
                f"model.{name}", got=asked, expected=f"{there!r}, as {folder} has it", advice="Leave it out."
            )


def _fitting(transfer: str, given: MiniBERT) -> str:
    """The folder of the weights that `--transfer` names, of a model of the same shape and vocabulary."""
    from mini_bert.model.pretrained import from_pretrained
    from mini_bert.training.first_model import differing

    folder = find_model(transfer, "--transfer")
    other = from_pretrained(folder)
    if (odd := differing(given.config, other.config)) is not None:
        got, expected = (f"{odd} {getattr(model.config, odd)!r}" for model in (other, given))
        raise InvalidInputError("--transfer", got=f"{transfer}, with {got}", expected=f"{expected}, as --model has it")
    if other.tokenizer is not None and other.tokenizer != given.tokenizer:
        raise InvalidInputError(
            "--transfer",
            got=f"{transfer}, with another vocabulary",
            expected="weights that began with those of --model",
        )
    return str(folder)


def _sets(task: str, train_file: Path | None, dev_file: Path | None) -> tuple[LabelledSet, LabelledSet]:
    """The training set and the dev set; of a training file alone, a part that is drawn by a fixed seed."""
    from mini_bert.data.task_sets.labelled import TASKS, load_task, read_labelled, split_off

    metric = TASKS[task].metric if task in TASKS else None
    classes = TASKS[task].classes if task in TASKS else None
    train = load_task(task) if train_file is None else read_labelled(train_file, classes, metric)
    train = train._replace(name=task)
    dev = None
    if dev_file is not None:
        dev = read_labelled(dev_file, train.classes, train.metric)._replace(name=task)
    elif task in TASKS:
        dev = load_task(task, "dev")
    if dev is not None:
        if dev.of_pairs != train.of_pairs:
            learned, scored = ("pairs" if one.of_pairs else "single texts" for one in (train, dev))
            name = "--train-file" if dev_file is None else "--dev-file"
            raise InvalidInputError(name, got=f"{learned} to learn from and {scored} to score", expected="the same")
        return train, dev
    train, dev = split_off(train, _DRAWN_DEV_SHARE, _MOST_DRAWN_DEV, seed=1)
    print(f"No --dev-file: {len(dev.examples):,} examples are drawn from the training file.", file=sys.stderr)
    return train, dev


def _text(config: Config, given: MiniBERT, folder: Path) -> TokenCorpus:
    """The running text, in the pieces of the model; what is held out of it was held out of its pre-training too."""
    from mini_bert.cli.progress import preparation
    from mini_bert.config.load import load_config
    from mini_bert.config.schema import DataConfig
    from mini_bert.data.tokens import open_tokens

    recipe = trained_by(folder)
    learned_from = DataConfig() if recipe is None else load_config([str(recipe)]).data
    held_out = {name: getattr(learned_from, name) for name in ("held_out_fraction", "held_out_rows")}
    data = config.data.model_copy(update={"corpus": config.data.corpus[1:], **held_out})
    with preparation() as progress:
        return open_tokens(
            data, config.tokenizer, given.config.vocab_size, tokenizer=given.tokenizer, progress=progress
        )
