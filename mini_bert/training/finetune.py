"""Fine-tuning: a model learns the labels of texts, through the whole encoder, by the loop of pre-training.

A fine-tuning is a training on another material: labelled texts instead of hidden pieces. So it is logged, saved, killed
and resumed to the bit like any other run. Its model has the tanh pooler and a classifier over it (Devlin et al. 2019,
section 4.1), whose weights are drawn from the seed, as the pooler's are where the weights that it begins with have
none. A head for scores begins with the mean of the training scores as its bias (docs/derivations/squared_error.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mini_bert.config.schema import Config
from mini_bert.data.batches import BatchStream
from mini_bert.data.labelled_batches import REPLAYED, LabelledStream
from mini_bert.errors import ConfigError, DataError
from mini_bert.model.bert import MiniBERT
from mini_bert.training.first_model import FIRST_VALUES, take_weights
from mini_bert.training.loop import Evaluate
from mini_bert.training.material import Prepared
from mini_bert.training.pretrain import train_on
from mini_bert.training.ranks import Ranks
from mini_bert.training.report import PretrainResult, Report

if TYPE_CHECKING:
    from mini_bert.data.task_sets.labelled import LabelledSet
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.text.wordpiece import WordPiece

_DRAWN = ("W_classifier", "b_classifier")
"""What belongs to one task, and is never taken from another's weights."""


@dataclass(frozen=True)
class LabelledTexts:
    """The material of a fine-tuning.

    Fields: `examples`; `tokenizer`, that of the model; `replay`, running text that is learned beside them, or None.
    """

    examples: LabelledSet
    tokenizer: WordPiece
    replay: TokenCorpus | None = None

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The hash of the examples, and what is replayed."""
        replayed = None if self.replay is None else self.replay.provenance
        return {"examples": self.examples.sha256, "replay": replayed}

    def first_model(self, config: Config) -> MiniBERT:
        """The weights of `run.start`, with a new classifier.

        Raises:
            CheckpointError, ConfigError: as `take_weights`.
        """
        model = MiniBERT(config.model, seed=config.run.seed, tokenizer=self.tokenizer)
        take_weights(model, config, fresh=_DRAWN)
        if self.examples.regression:
            model.parameters["b_classifier"][...] = self.examples.labels.mean()
        return model

    def prepare(self, config: Config, threads: int) -> Prepared:
        """The batches.

        Raises:
            ConfigError, DataError: as `BatchStream`, for what is replayed.
        """
        replayed = None
        if self.replay is not None:
            size = max(1, config.train.batch_size // REPLAYED)
            fewer = config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})
            masks_only = fewer.model_copy(update={"tasks": type(config.tasks)()})
            replayed = BatchStream(self.replay.train, masks_only, self.tokenizer)
        stream = LabelledStream(self.examples, config, self.tokenizer, replayed)
        return Prepared(stream, stream.tokens, None, {})


def finetune_config(config: Config, given: MiniBERT, start: str | None, examples: LabelledSet, epochs: int) -> Config:
    """The configuration of a fine-tuning: `config` with the model's shape, the task's head, and steps for the epochs.

    The model is saved and scored at the end of every epoch, and every epoch's checkpoint is kept.

    Args:
        config: whatever can be set: rate, batch, dropout, seed, the weight of `masked_lm` where text is replayed.
        given: the model whose weights it begins with, or whose shape it has.
        start: where these weights are; None: from scratch.
        examples: what is learned.
        epochs: of them.

    Raises:
        ConfigError: `train.steps` or `train.minutes`, where epochs say how long.
        DataError: fewer examples than shards.
    """
    if config.train.minutes is not None or config.train.steps is not None:
        name = "minutes" if config.train.minutes is not None else "steps"
        raise ConfigError(f"train.{name}", got=getattr(config.train, name), expected="none: --epochs says how long")
    count = len(examples.examples)
    if count < config.train.shards:
        raise DataError(
            f"the training set {examples.name}",
            got=f"{count} examples",
            expected=f"at least {config.train.shards}, one for each shard",
            advice="Or fewer: --train.shards 1.",
        )
    replay = config.tasks.masked_lm > 0
    dropout = ("hidden_dropout_prob", "attention_probs_dropout_prob", *FIRST_VALUES)
    shape = given.config.model_dump() | {name: getattr(config.model, name) for name in dropout}
    shape |= {
        "decoder_bias_init": "zeros",
        "heads": ("mlm", "classifier") if replay else ("classifier",),
        "pooler": True,
        "num_labels": max(1, len(examples.classes)),
        "labels": examples.classes,
    }
    task = "regression" if examples.regression else "classification"
    steps = -(-count // config.train.batch_size)
    return config.model_copy(
        update={
            "model": type(given.config)(**shape),
            "tasks": config.tasks.model_copy(update={"classification": 0.0, "regression": 0.0, task: 1.0}),
            "train": config.train.model_copy(
                update={
                    "steps": epochs * steps,
                    "evaluate_every": steps,
                    "save_every": steps,
                    "keep_checkpoints": max(2, epochs + 1),
                }
            ),
            "run": config.run.model_copy(update={"start": start}),
        }
    )


def finetune(
    config: Config,
    examples: LabelledSet,
    tokenizer: WordPiece,
    *,
    replay: TokenCorpus | None = None,
    evaluate: Evaluate | None = None,
    report: Report | None = None,
    ranks: Ranks | None = None,
) -> PretrainResult:
    """Train a model on labelled texts as `config` says (see `finetune_config`), or go on with one (`run.resume`).

    Args:
        config: of the run; every rank of an MPI job has the same.
        examples: what is learned; what it is scored by must not be among them.
        tokenizer: of the model.
        replay: running text, tokenised by it, where `tasks.masked_lm` has a weight.
        evaluate: as in `pretrain`: called before step 1 and after each epoch.
        report: told what happens.
        ranks: the processes that train together.

    Raises:
        MiniBertError: as `pretrain`; in particular DataError on a resume with other examples.
    """
    if (replay is None) != (config.tasks.masked_lm == 0):
        raise ConfigError(
            "tasks.masked_lm",
            got=f"{config.tasks.masked_lm} {'without' if replay is None else 'beside'} text to replay",
            expected="a weight above 0 where text is replayed, and 0 elsewhere",
        )
    material = LabelledTexts(examples, tokenizer, replay)
    return train_on(lambda _: material, config, evaluate=evaluate, report=report, ranks=ranks)
