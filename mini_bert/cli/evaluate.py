"""`mini-bert evaluate RUN`: how good is it, beside what counting alone can do?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from mini_bert.cli import CHECK_FAILED, DONE
from mini_bert.cli.models import find_model
from mini_bert.cli.options import ConfigOptions, Flag
from mini_bert.cli.results import print_result
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus

_OVERFIT_STEPS = 1000
"""Updates after which a batch counts as not learned; the smallest models need the most."""


def evaluate(
    model: Positional[Annotated[str, arg(metavar="RUN")]],
    options: Annotated[ConfigOptions, arg(name="")],
    *,
    quick: Flag = False,
    overfit_one_batch: Flag = False,
    json: Flag = False,
) -> int:
    """Score a model on held-out text beside n-gram baselines, on the very same hidden pieces.

    RUN is a run's name, the path of a checkpoint, or any Hugging Face folder of a BERT. The text is what the run held
    out of its corpus, unless --corpus names another one. The hidden pieces are the same for every model and baseline.

    Examples:
      mini-bert evaluate demo
      mini-bert evaluate demo --quick --json
      mini-bert evaluate demo --corpus novels
      mini-bert evaluate demo --overfit-one-batch

    Args:
        model: which model.
        quick: 128 rows, baselines from 2 million tokens: seconds.
        overfit_one_batch: instead, whether a fresh model of this shape learns one batch by heart; exit code 1 if not.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.evaluation.run import evaluate_run
    from mini_bert.model.bert import MiniBERT
    from mini_bert.training.first_model import FIRST_VALUES

    folder = find_model(model)
    bert = MiniBERT.from_pretrained(folder)
    if bert.tokenizer is None:
        raise InvalidInputError("RUN", got=f"{folder}, a model without a tokenizer", expected="vocab.txt beside it")
    config = _config_of(folder, options)
    for name in options.settings.get("model", {}):
        asked, found = getattr(config.model, name), getattr(bert.config, name)
        if asked != found:
            raise InvalidInputError(
                f"--model.{name.replace('_', '-')}",
                got=asked,
                expected=f"{found}, as {folder} has it",
                advice="Leave it out.",
            )
    first = {name: getattr(config.model, name) for name in FIRST_VALUES}
    config = config.model_copy(update={"model": bert.config.model_copy(update=first)})
    with preparation() as progress:
        tokens = _open(config, bert.tokenizer, progress)
        if overfit_one_batch:
            return _overfit(config, tokens, progress, json)
        result = evaluate_run(bert, config, tokens, quick=quick, progress=progress)
    print_result(result, json=json)
    return DONE


def _config_of(folder: Path, options: ConfigOptions) -> Config:
    """The configuration of the run that a checkpoint lies in, or the default one, with the options on top."""
    of_run = folder.resolve().parent.parent / "config.yaml"
    return options.load(*[str(of_run)] if of_run.is_file() else [])


def _open(config: Config, tokenizer: Any, progress: Any) -> TokenCorpus:
    from mini_bert.data.tokens import open_tokens

    return open_tokens(config.data, config.tokenizer, config.model.vocab_size, tokenizer=tokenizer, progress=progress)


def _overfit(config: Config, tokens: TokenCorpus, progress: Any, json: bool) -> int:
    from mini_bert.config.schema import CurriculumConfig, TasksConfig
    from mini_bert.data.batches import BatchStream
    from mini_bert.evaluation.overfit import overfit_one_batch
    from mini_bert.model.tasks import with_task_heads

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
