"""The model before step 1: drawn from the seed, or with the weights of another training without its optimiser.

What is begun from given weights is a training of its own: step 1, new moments, its own schedule and order of rows.
Heads that the weights lack, or have for another number of classes, are drawn. A branch that also goes on with the
moments is `run.resume` under another name.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mini_bert.config.schema import Config, ModelConfig
from mini_bert.data.piece_counts import piece_counts
from mini_bert.data.tokens import TokenCorpus
from mini_bert.errors import ConfigError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.pretrained import from_pretrained
from mini_bert.training.model_lookup import find_model

FIRST_VALUES = ("initializer", "initializer_range", "scale_residual_init", "decoder_bias_init")
"""How a model is drawn, of which its folder says nothing."""
FREE = frozenset(
    {
        *FIRST_VALUES,
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "heads",
        "pooler",
        "num_labels",
        "labels",
    }
)
"""Settings of the model that may differ from those of the weights: what it computes of ids stays the same."""


def drawn_by(model: MiniBERT, config: ModelConfig) -> MiniBERT:
    """`model`, whose configuration says from now on how it was first drawn; its folder does not."""
    model.config = model.config.model_copy(update={name: getattr(config, name) for name in FIRST_VALUES})
    return model


def first_model(config: Config, tokens: TokenCorpus) -> MiniBERT:
    """The model that step 1 begins with, for the corpus that it will be trained on.

    Raises:
        CheckpointError: `run.start` names no model, or one that does not hold.
        ConfigError: its architecture or its vocabulary is another one.
    """
    model = MiniBERT(
        config.model, seed=config.run.seed, tokenizer=tokens.tokenizer, unigram=unigram_counts(config.model, tokens)
    )
    take_weights(model, config)
    return model


def take_weights(model: MiniBERT, config: Config, fresh: tuple[str, ...] = ()) -> None:
    """Put the weights that `run.start` names into `model`, but for those that it lacks, and for those named `fresh`.

    Raises:
        CheckpointError: `run.start` names no model, or one that does not hold.
        ConfigError: its architecture or its vocabulary is another one.
    """
    if config.run.start is None:
        return
    given = from_pretrained(find_model(config.run.start, config.run.directory, "run.start"))
    odd = differing(config.model, given.config)
    if odd is not None:
        raise ConfigError(
            "run.start",
            got=f"{config.run.start}, weights of a model with {odd} {getattr(given.config, odd)!r}",
            expected=f"{odd} {getattr(config.model, odd)!r}, as model.{odd} says",
        )
    if given.tokenizer is not None and given.tokenizer != model.tokenizer:
        raise ConfigError(
            "run.start",
            got=f"{config.run.start}, weights that were trained with another vocabulary",
            expected="the vocabulary of this corpus and these settings",
            advice="--tokenizer.vocab-file takes the vocab.txt of the weights' folder.",
        )
    for name, view in model.parameters.items():
        if name in given.parameters and name not in fresh and given.parameters[name].shape == view.shape:
            view[...] = given.parameters[name]


def unigram_counts(model: ModelConfig, tokens: TokenCorpus) -> NDArray[np.int64] | None:
    """[V] how often each piece stands in the training text, where `decoder_bias_init` asks for it."""
    if model.decoder_bias_init != "unigram":
        return None
    counts = piece_counts(tokens.train, tokens.tokenizer)
    return np.pad(counts, (0, model.vocab_size - len(counts)))


def differing(one: ModelConfig, other: ModelConfig) -> str | None:
    """The first setting by which two models compute different things of the same weights; None if there is none."""
    settings = (name for name in ModelConfig.model_fields if name not in FREE)
    return next((name for name in settings if getattr(one, name) != getattr(other, name)), None)
