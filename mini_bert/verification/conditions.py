"""At which sizes and under which conditions is the model checked?

The default model is the one that everybody trains. The small one is a few times smaller in every direction, so that
loops over single numbers can follow; it is put through every activation, every head, and every kind of batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.feed_forward import ACTIVATIONS
from mini_bert.model.heads import HEADS
from mini_bert.model.tasks import HEAD_OF
from mini_bert.verification.scenario import Scenario, as_dtype, away_from_start, kink_distance, make_scenario

SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "vocab_size": 512,
}
"""The size of the preset `model/debug`."""

TINY: dict[str, Any] = {**SMALL, "hidden_size": 6, "intermediate_size": 5, "vocab_size": 13, "num_attention_heads": 3}
"""So small that an input of all ReLUs far from the kink can be found."""


BLOCK_VARIANTS: dict[str, dict[str, Any]] = {
    "pre-LN": {"norm_placement": "pre"},
    "pre-LN, hidden states": {"norm_placement": "pre", "heads": ()},
    "RMSNorm": {"norm": "rms_norm"},
    "gated feed-forward": {"feed_forward": "gated"},
    "gated feed-forward, relu": {"feed_forward": "gated", "hidden_act": "relu"},
    "no biases": {"use_bias": False},
    "pre-LN, RMSNorm": {"norm_placement": "pre", "norm": "rms_norm"},
    "pre-LN, no biases": {"norm_placement": "pre", "use_bias": False},
    "RMSNorm, no biases": {"norm": "rms_norm", "use_bias": False},
    "gated feed-forward, RMSNorm": {"feed_forward": "gated", "norm": "rms_norm"},
    "gated feed-forward, no biases": {"feed_forward": "gated", "use_bias": False},
    "pre-LN, gated feed-forward": {"norm_placement": "pre", "feed_forward": "gated"},
    "pre-LN, RMSNorm, gated feed-forward, no biases": {
        "norm_placement": "pre", "norm": "rms_norm", "feed_forward": "gated", "use_bias": False,
    },
    "pre-LN, RMSNorm, gated feed-forward, no biases, relu": {
        "norm_placement": "pre", "norm": "rms_norm", "feed_forward": "gated", "use_bias": False, "hidden_act": "relu",
    },
}  # fmt: skip
"""Every variant of the block, every pair of them, and all at once."""

QUICK_BLOCK_VARIANTS = ("pre-LN", "pre-LN, RMSNorm, gated feed-forward, no biases")


_T5: dict[str, Any] = {
    "position_embedding_type": "t5_bias",
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}
"""Few enough buckets that distances share some."""

ATTENTION_VARIANTS: dict[str, dict[str, Any]] = {
    "rotary positions": {"position_embedding_type": "rotary", "rope_theta": 100.0},
    "T5's bias": _T5,
    "Shaw's keys": {"position_embedding_type": "relative_key"},
    "ALiBi": {"position_embedding_type": "alibi"},
    "ALiBi, three heads": {"position_embedding_type": "alibi", "hidden_size": 18, "num_attention_heads": 3},
    "a gate for each head": {"attention_gate": "head"},
    "a gate for each number": {"attention_gate": "element"},
    "rotary, gated heads, pre-LN, RMSNorm": {
        "position_embedding_type": "rotary", "attention_gate": "head", "norm_placement": "pre", "norm": "rms_norm",
    },
    "rotary, gated numbers and feed-forward, no biases": {
        "position_embedding_type": "rotary", "attention_gate": "element", "feed_forward": "gated", "use_bias": False,
    },
    "T5's bias, gated heads and feed-forward, pre-LN": {
        **_T5, "attention_gate": "head", "feed_forward": "gated", "norm_placement": "pre",
    },
    "T5's bias, gated numbers, RMSNorm, no biases": {
        **_T5, "attention_gate": "element", "norm": "rms_norm", "use_bias": False,
    },
    "Shaw's keys, gated heads, pre-LN, no biases": {
        "position_embedding_type": "relative_key", "attention_gate": "head", "norm_placement": "pre", "use_bias": False,
    },
    "Shaw's keys, gated numbers and feed-forward, RMSNorm": {
        "position_embedding_type": "relative_key", "attention_gate": "element", "feed_forward": "gated",
        "norm": "rms_norm",
    },
    "ALiBi, gated heads": {"position_embedding_type": "alibi", "attention_gate": "head"},
    "ALiBi, gated numbers and feed-forward, pre-LN, RMSNorm, no biases": {
        "position_embedding_type": "alibi", "attention_gate": "element", "feed_forward": "gated",
        "norm_placement": "pre", "norm": "rms_norm", "use_bias": False,
    },
}  # fmt: skip
"""Every variant of attention, and every pair of it with another, or with one of the block."""

QUICK_ATTENTION_VARIANTS = (
    "rotary, gated heads, pre-LN, RMSNorm",
    "T5's bias, gated heads and feed-forward, pre-LN",
    "Shaw's keys, gated numbers and feed-forward, RMSNorm",
    "ALiBi, three heads",
)


TASK_WEIGHTS: dict[str, dict[str, float]] = {
    "task: masked language model, weight 2": {"masked_lm": 2.0},
    "task: next sentence": {"next_sentence": 1.0},
    "task: sentence order": {"sentence_order": 1.0},
    "task: token order": {"token_order": 1.0},
    "task: replaced tokens": {"replaced_token": 50.0},
    "task: the class of a text": {"classification": 1.0},
    "task: the score of a text": {"regression": 1.0},
    "tasks: the class of a text and masked language model": {"classification": 1.0, "masked_lm": 0.3},
    "tasks: masked language model and next sentence": {"masked_lm": 1.0, "next_sentence": 1.0},
    "tasks: all at once": {
        "masked_lm": 1.0, "next_sentence": 0.7, "sentence_order": 0.4, "token_order": 2.0, "replaced_token": 50.0,
    },
}  # fmt: skip
"""Each task alone, and with others; ELECTRA's weight of replaced tokens is 50."""

QUICK_TASKS = ("tasks: all at once",)


def default_scenario(*, quick: bool = False) -> Scenario:
    """The exact default model: padding, two segments, dropout, 9 and 4 masked positions."""
    if quick:
        return make_scenario("default model", away_from_start(ModelConfig()), tokens=9, lengths=(9, 5), masked=(2, 1))
    return make_scenario("default model", away_from_start(ModelConfig()), tokens=61, lengths=(61, 37), masked=(9, 4))


def small_scenario(*, quick: bool = False) -> Scenario:
    """The same at the small size, with a row that the loss does not read at all."""
    tokens = 9 if quick else 31
    lengths = (tokens, tokens // 2, 5)
    return make_scenario(
        "small model", away_from_start(ModelConfig(**SMALL)), tokens=tokens, lengths=lengths, masked=(6, 0, 3)
    )


def own_scenario(model: MiniBERT, *, quick: bool = False) -> Scenario:
    """A user's model with the weights that it has; a large one reads fewer tokens."""
    config, model = model.config, as_dtype(as_dtype(model, "float32"), "float64")
    longest = config.max_position_embeddings - 1  # so that padding can be appended
    tokens = min(13 if quick or model.parameters.buffer.size > MANY_PARAMETERS else 61, longest)
    dropout = bool(config.hidden_dropout_prob or config.attention_probs_dropout_prob)
    made = partial(
        make_scenario,
        "your model",
        model,
        tokens=tokens,
        lengths=(tokens, tokens * 3 // 5),
        masked=(min(9, tokens), min(4, tokens)),
        dropout=dropout,
    )
    return _far_from_kinks(made, tries=20)


MANY_PARAMETERS = 10_000_000
"""Above it a user's model is checked at fewer entries and on fewer tokens: every entry costs five passes."""


def entries_for(model: MiniBERT) -> int:
    """Single entries of each tensor that differences look at."""
    size = model.parameters.buffer.size
    return 20 if size <= MANY_PARAMETERS else 5 if size <= 4 * MANY_PARAMETERS else 1


def _far_from_kinks(made: Callable[..., Scenario], tries: int) -> Scenario:
    """Of so many seeds, the one that stays furthest from kinks; the first where there are none."""
    scenarios = (made(seed=seed) for seed in range(tries))
    best, furthest = None, -1.0
    for scenario in scenarios:
        distance = kink_distance(scenario)
        if distance > furthest:
            best, furthest = scenario, distance
        if furthest == float("inf"):
            break
    assert best is not None
    return best


def conditions(*, quick: bool = False) -> Iterator[Scenario]:
    """Every activation without and with dropout, every head, every kind of batch; `quick`: those that differ most."""
    small = partial(_small, 4, (4, 3), (2, 1), vocab_size=61) if quick else partial(_small, 8, (8, 5), (3, 1))
    for activation in ACTIVATIONS:
        yield small(f"{activation}, dropout", hidden_act=activation)
        if not quick:
            yield small(activation, dropout=False, hidden_act=activation)
    yield _away_from_the_kink("relu, away from its kink")
    if not quick:
        all_at_once = BLOCK_VARIANTS["pre-LN, RMSNorm, gated feed-forward, no biases"]
        yield _away_from_the_kink("all variants of the block, relu, away from its kink", **all_at_once)
    for head in HEADS:
        heads = ("mlm", "nsp") if head == "nsp" else (head,)
        yield small(f"logits: {' and '.join(heads)}", all_logits=True, heads=heads, num_labels=3)
    yield small("hidden states: no head", heads=(), type_vocab_size=3)
    for name, settings in {**BLOCK_VARIANTS, **ATTENTION_VARIANTS}.items():
        if not quick or name in (*QUICK_BLOCK_VARIANTS, *QUICK_ATTENTION_VARIANTS):
            yield small(name, **settings)
    for name, tasks in TASK_WEIGHTS.items():
        if not quick or name in QUICK_TASKS:
            outputs = 1 if "regression" in tasks else 2
            yield small(name, tasks=tasks, heads=tuple(HEAD_OF[task] for task in tasks), num_labels=outputs)
    yield _small(4, (4, 0, 2), (2, 1, 2), "a row of padding only", dropout=False)
    if quick:
        return
    yield small("all heads at once", heads=tuple(HEADS), num_labels=3)
    yield _small(32, (32,), (5,), "T = 32, no padding, one segment", segments=False, dropout=False)
    yield _small(1, (1,), (1,), "one token")
    yield _small(8, (8, 5), (8, 8), "every position is read")
    yield _small(8, (8, 5), (0, 1), "one position of one row is read")
    yield _small(8, (8, 5), (3, 3), "as many positions in each row")
    yield small("one head of attention, a large epsilon", num_attention_heads=1, layer_norm_eps=0.1)
    odd: dict[str, Any] = {"hidden_size": 15, "num_attention_heads": 3, "intermediate_size": 7}
    yield small("one layer, odd widths", num_hidden_layers=1, **odd)
    yield small("four layers, one segment in all", num_hidden_layers=4, type_vocab_size=1)


def _small(
    tokens: int,
    lengths: tuple[int, ...],
    masked: tuple[int, ...],
    name: str,
    *,
    segments: bool = True,
    dropout: bool = True,
    all_logits: bool = False,
    tasks: dict[str, float] | None = None,
    **settings: Any,
) -> Scenario:
    return make_scenario(
        name,
        away_from_start(ModelConfig(**{**SMALL, **settings})),
        tokens=tokens,
        lengths=lengths,
        masked=masked,
        segments=segments,
        dropout=dropout,
        all_logits=all_logits,
        tasks=tasks,
    )


def _away_from_the_kink(name: str, **settings: Any) -> Scenario:
    model = away_from_start(ModelConfig(**TINY, hidden_act="relu", **settings))
    made = partial(make_scenario, name, model, tokens=4, lengths=(4,), masked=(2,), dropout=False)
    return _far_from_kinks(made, tries=300)
