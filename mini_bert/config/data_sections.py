"""From texts to what is asked about them: tokenizer, data, masking, curriculum, tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mini_bert.config.section import Integer, Real, Section, listed
from mini_bert.errors import ConfigError


class TokenizerConfig(Section):
    """How text falls into pieces. The vocabulary's size is `model.vocab_size`."""

    vocab_file: str | None = Field(None, description="use this vocab.txt instead of learning a vocabulary")
    lowercase: bool = Field(True, description="lower-case the text (uncased BERT)")
    strip_accents: bool | None = Field(None, description="remove accents; null: as lowercase says, as BERT does")
    min_frequency: Integer = Field(2, ge=1, description="least count of a pair of pieces that is merged")


class DataConfig(Section):
    """Which texts, and how they become rows of tokens."""

    corpus: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        ("python-docs",),
        min_length=1,
        description="names of corpora, paths or glob patterns; `name=2.5` weighs one against the others",
    )
    layout: Literal["packed", "sentences"] = Field(
        "packed", description="packed: rows filled to T with sentences of one document; sentences: one a row, padded"
    )
    held_out_fraction: Real = Field(0.02, gt=0, lt=0.5, description="share of documents kept for evaluation")
    held_out_rows: Integer = Field(1024, ge=1, description="at most so many held-out rows are scored")


class MaskingConfig(Section):
    """Which tokens are hidden from the model (Devlin et al. 2019, section 3.1, Task 1)."""

    rate: Real = Field(0.15, gt=0, lt=1, description="share of the ordinary tokens that are predicted")
    mask_share: Real = Field(0.8, ge=0, le=1, description="of these, the share that becomes [MASK]")
    random_share: Real = Field(0.1, ge=0, le=1, description="of these, the share that becomes a random piece")
    kind: Literal["token", "whole_word", "span", "ngram", "frequency", "pmi", "pattern"] = Field(
        "token", description="what is chosen together, or sooner than the rest"
    )
    span_p: Real = Field(0.2, gt=0, lt=1, description="span: parameter of the geometric distribution of lengths")
    span_max: Integer = Field(10, ge=1, le=512, description="span, pmi: most words in one span")
    ngram_max: Integer = Field(3, ge=1, le=512, description="ngram: most words in one; length n has the weight 1/n")
    frequency_power: Real = Field(
        0.5, ge=0, le=4, description="frequency: a piece is chosen in proportion to its frequency to the minus this"
    )
    patterns: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="pattern: regular expressions; words that one of them matches whole are preferred"
    )
    word_list: str | None = Field(None, description="pattern: a file of preferred words, one a line")
    pattern_weight: Real = Field(4.0, gt=0, description="pattern: how many times sooner preferred words are chosen")
    rate_schedule: Literal["fixed", "linear", "cosine", "adaptive"] = Field(
        "fixed", description="how the rate goes on from `rate`: not at all, to `final_rate`, or by held-out accuracy"
    )
    final_rate: Real = Field(0.15, gt=0, lt=1, description="linear, cosine: the rate at the last step")
    adaptive_target: Real = Field(0.4, gt=0, lt=1, description="adaptive: held-out accuracy that the rate aims at")
    adaptive_step: Real = Field(
        0.01, gt=0, lt=0.5, description="adaptive: change of the rate at an evaluation, at most"
    )
    adaptive_range: tuple[Real, Real] = Field((0.1, 0.4), description="adaptive: least and greatest rate")

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_once_called(cls, settings: Any) -> Any:
        """Runs of the first format say `whole_word: true` where `kind: whole_word` is said now."""
        if isinstance(settings, dict) and "whole_word" in settings:
            settings = dict(settings)
            if settings.pop("whole_word"):
                settings.setdefault("kind", "whole_word")
        return settings

    @model_validator(mode="after")
    def _shares_fit(self) -> MaskingConfig:
        low, high = self.adaptive_range
        if not 0 < low <= high < 1:
            raise ConfigError("adaptive_range", got=self.adaptive_range, expected="two rates between 0 and 1, in order")
        if self.rate_schedule == "adaptive" and not low <= self.rate <= high:
            raise ConfigError(
                "rate", got=self.rate, expected=f"{low} to {high} (adaptive_range), where an adaptive rate stays"
            )
        if self.kind == "pattern" and not self.patterns and self.word_list is None:
            raise ConfigError(
                "patterns",
                got="none beside kind pattern",
                expected="regular expressions, or a word_list",
            )
        if self.kind == "pmi" and self.span_max < 2:
            raise ConfigError(
                "span_max", got=self.span_max, expected="at least 2 beside kind pmi: words that go together"
            )
        if self.mask_share + self.random_share > 1 + 1e-12:
            raise ConfigError(
                "mask_share",
                got=f"{self.mask_share} beside random_share {self.random_share}",
                expected="a sum of at most 1",
                advice="What is left over stays unchanged.",
            )
        return self


class CurriculumConfig(Section):
    """Which rows come early (Bengio et al. 2009): rows in order of difficulty, of which a growing share is drawn."""

    kind: Literal["none", "length", "rarity", "loss"] = Field(
        "none", description="difficulty of a row: its length, its mean piece's rarity, or a reference model's loss"
    )
    pacing: Literal["linear", "root", "exponential", "steps"] = Field(
        "root", description="how the share of rows grows (Platanios et al. 2019; Wu et al. 2021)"
    )
    start: Real = Field(0.2, gt=0, le=1, description="share of the rows, the easiest, that the first step draws from")
    until: Real = Field(0.5, gt=0, le=1, description="share of all steps after which every row is drawn from")
    hard_first: bool = Field(False, description="the hardest rows first: the anti-curriculum to compare with")
    reference: str | None = Field(None, description="loss: the MODEL whose loss is a row's difficulty")

    @model_validator(mode="after")
    def _has_reference(self) -> CurriculumConfig:
        if self.kind == "loss" and self.reference is None:
            raise ConfigError("reference", got="none beside kind loss", expected="a run, a folder or a model's name")
        return self


class TasksConfig(Section):
    """What is learned, and how much each loss weighs. A weight above 0 gives the model the task's head."""

    masked_lm: Real = Field(1.0, ge=0, description="masked language modelling (Devlin et al. 2019)")
    next_sentence: Real = Field(0.0, ge=0, description="does B follow A? (head nsp; Devlin et al. 2019)")
    sentence_order: Real = Field(0.0, ge=0, description="are A and B in order? (head sop; Lan et al. 2020)")
    token_order: Real = Field(
        0.0, ge=0, description="which tokens were shuffled? (head std; Yamaguchi et al. 2021, Panda et al. 2021)"
    )
    replaced_token: Real = Field(0.0, ge=0, description="which tokens were replaced? (head rtd; Clark et al. 2020)")
    classification: Real = Field(0.0, ge=0, description="finetune: which class has a text? (head classifier)")
    regression: Real = Field(0.0, ge=0, description="finetune: which score has a text? (head classifier)")
    shuffle_share: Real = Field(
        0.1, gt=0, lt=1, description="token_order: share of the ordinary tokens, untouched so far, that trade places"
    )
    replacements: Literal["frequency", "model"] = Field(
        "frequency",
        description="replaced_token: draws by frequency in 15 % of the places, or the model's own guesses",
    )

    @model_validator(mode="after")
    def _learns_something(self) -> TasksConfig:
        weights = (self.masked_lm, self.next_sentence, self.sentence_order, self.token_order, self.replaced_token)
        if not any((*weights, self.classification, self.regression)):
            raise ConfigError("masked_lm", got="weight 0, as all tasks", expected="a task with a weight above 0")
        if self.replaced_token and self.replacements == "model" and not self.masked_lm:
            raise ConfigError(
                "replacements",
                got="model beside masked_lm 0",
                expected="a weight above 0 for masked_lm, which the model learns to guess by",
                advice="Or take replacements by frequency.",
            )
        return self
