"""Settings that change nothing beside the others: nobody sets them on purpose, so it is said."""

from __future__ import annotations

from typing import Any

from mini_bert.config.schema import Config

_READ_BESIDE: dict[str, tuple[str, tuple[str, ...]]] = {
    "model.rope_theta": ("model.position_embedding_type", ("rotary",)),
    "model.relative_attention_num_buckets": ("model.position_embedding_type", ("t5_bias",)),
    "model.relative_attention_max_distance": ("model.position_embedding_type", ("t5_bias",)),
    "masking.span_p": ("masking.kind", ("span",)),
    "masking.span_max": ("masking.kind", ("span", "pmi")),
    "masking.ngram_max": ("masking.kind", ("ngram",)),
    "masking.frequency_power": ("masking.kind", ("frequency",)),
    "masking.patterns": ("masking.kind", ("pattern",)),
    "masking.word_list": ("masking.kind", ("pattern",)),
    "masking.pattern_weight": ("masking.kind", ("pattern",)),
    "masking.final_rate": ("masking.rate_schedule", ("linear", "cosine")),
    "masking.adaptive_target": ("masking.rate_schedule", ("adaptive",)),
    "masking.adaptive_step": ("masking.rate_schedule", ("adaptive",)),
    "masking.adaptive_range": ("masking.rate_schedule", ("adaptive",)),
    "curriculum.pacing": ("curriculum.kind", ("length", "rarity", "loss")),
    "curriculum.start": ("curriculum.kind", ("length", "rarity", "loss")),
    "curriculum.until": ("curriculum.kind", ("length", "rarity", "loss")),
    "curriculum.hard_first": ("curriculum.kind", ("length", "rarity", "loss")),
    "curriculum.reference": ("curriculum.kind", ("loss",)),
    "optimizer.beta1": ("optimizer.name", ("adamw", "lion", "muon")),
    "optimizer.beta2": ("optimizer.name", ("adamw", "lion", "adafactor", "muon")),
    "optimizer.eps": ("optimizer.name", ("adamw", "muon")),
    "optimizer.momentum": ("optimizer.name", ("sgd", "muon")),
    "optimizer.nesterov": ("optimizer.name", ("sgd", "muon")),
    "optimizer.newton_schulz_steps": ("optimizer.name", ("muon",)),
    "train.min_lr_ratio": (
        "train.schedule",
        ("linear", "cosine", "polynomial", "inverse_sqrt", "wsd", "one_cycle"),
    ),
    "train.power": ("train.schedule", ("polynomial",)),
    "train.decay_ratio": ("train.schedule", ("wsd",)),
    "train.max_grad_norm": ("train.clipping", ("global", "layer")),
    "train.adaptive_clip": ("train.clipping", ("adaptive",)),
    "health.spike_deviations": ("health.spike", ("warn", "roll-back")),
    "health.max_rollbacks": ("health.spike", ("roll-back",)),
}
"""Setting → another one, and the values of that beside which it is read."""

_READ_WITH: dict[str, tuple[str, ...]] = {
    "tasks.shuffle_share": ("tasks.token_order",),
    "tasks.replacements": ("tasks.replaced_token",),
    "optimizer.lookahead_alpha": ("optimizer.lookahead",),
    "health.lr_cut": ("health.lr_cut_after_skips", "health.lr_cut_after_evaluations"),
    "health.min_improvement": ("health.lr_cut_after_evaluations", "health.stop_after_evaluations"),
}
"""Setting → those of which one has to be set, or above 0, for it to be read."""


def without_effect(config: Config) -> list[str]:
    """A sentence for each setting that is not as by default and has no effect beside the others.

    >>> without_effect(Config.model_validate({"train": {"power": 3}}))
    ['train.power 3.0 has no effect beside train.schedule linear: it is for polynomial.']
    """
    return [*_settings(config), *_too_late(config)]


def _settings(config: Config) -> list[str]:
    found = []
    for setting in _changed(config):
        shown = f"{setting} {_words(_value(config, setting))} has no effect"
        other, values = _READ_BESIDE.get(setting, ("", ()))
        needed = _READ_WITH.get(setting, ())
        if setting.startswith("masking.") and not config.tasks.masked_lm:
            found.append(f"{shown} beside tasks.masked_lm 0: nothing is masked.")
        elif other and _value(config, other) not in values:
            found.append(f"{shown} beside {other} {_words(_value(config, other))}: it is for {', '.join(values)}.")
        elif needed and not any(_value(config, name) for name in needed):
            found.append(f"{shown} without {' or '.join(needed)}.")
    return found


def _too_late(config: Config) -> list[str]:
    """What would begin behind the last step, where that is known."""
    found, train, steps = [], config.train, config.train.steps
    if steps is None:
        return found
    if train.warmup_steps is not None and train.warmup_steps >= max(steps, 2):
        found.append(
            f"train.warmup_steps {train.warmup_steps:,} of {steps:,} steps: the rate rises to the end, and no schedule "
            "comes after it."
        )
    late = [step for step in train.milestones if step > steps]
    if late:
        found.append(f"train.milestones {_words(tuple(late))} have no effect within {steps:,} steps.")
    lookahead = config.optimizer.lookahead
    if lookahead is not None and lookahead > steps:
        found.append(f"optimizer.lookahead {lookahead:,} has no effect within {steps:,} steps.")
    adaptive = config.masking.rate_schedule == "adaptive" and config.tasks.masked_lm
    if adaptive and train.evaluate_every >= steps:
        found.append(
            f"masking.rate_schedule adaptive has no effect: the first evaluation that the rate could follow, at step "
            f"{train.evaluate_every:,} (train.evaluate_every), does not come before the last of {steps:,} steps."
        )
    return found


def _changed(config: Config) -> list[str]:
    """The settings that are not as by default."""
    values, defaults = config.to_dict(), Config().to_dict()
    return [
        f"{section}.{name}"
        for section, settings in values.items()
        for name, value in settings.items()
        if value != defaults[section][name]
    ]


def _value(config: Config, setting: str) -> Any:
    section, name = setting.split(".")
    return getattr(getattr(config, section), name)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
