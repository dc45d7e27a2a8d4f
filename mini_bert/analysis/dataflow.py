"""Which operation makes a named intermediate, and from which others?

The names are those that a pass taps (docs/guide/inside.md), in the form that masked language modelling has:

    embeddings → per block: Q, K, V → scores → weights → context → projection → sum → output
                            → pre_activation → activation → projection → sum → output        → head → logits
"""

from __future__ import annotations

from mini_bert.errors import InvalidInputError

OPERATIONS = {
    "embeddings.token": "embedding table",
    "embeddings.position": "embedding table",
    "embeddings.segment": "embedding table",
    "embeddings.sum": "sum",
    "embeddings.output": "LayerNorm",
    "attention.Q": "linear: Q, K, V",
    "attention.K": "linear: Q, K, V",
    "attention.V": "linear: Q, K, V",
    "attention.scores": "scores QKᵀ/√K",
    "attention.attention_weights": "softmax",
    "attention.context": "weighted sum of V",
    "attention.projection": "linear: W_O",
    "attention.sum": "sum",
    "attention.output": "LayerNorm",
    "feed_forward.pre_activation": "linear: W1",
    "feed_forward.activation": "activation",
    "feed_forward.projection": "linear: W2",
    "feed_forward.sum": "sum",
    "output": "LayerNorm",
    "mlm.pre_activation": "linear: head",
    "mlm.activation": "activation",
    "mlm.output": "LayerNorm",
    "logits": "linear: decoder",
}
"""Name, without its block → what made it."""

_WITHIN_BLOCK = {
    "attention.Q": (),
    "attention.K": (),
    "attention.V": (),
    "attention.scores": ("attention.Q", "attention.K"),
    "attention.attention_weights": ("attention.scores",),
    "attention.context": ("attention.attention_weights", "attention.V"),
    "attention.projection": ("attention.context",),
    "attention.sum": ("attention.projection",),
    "attention.output": ("attention.sum",),
    "feed_forward.pre_activation": ("attention.output",),
    "feed_forward.activation": ("feed_forward.pre_activation",),
    "feed_forward.projection": ("feed_forward.activation",),
    "feed_forward.sum": ("feed_forward.projection", "attention.output"),
    "output": ("feed_forward.sum",),
}
_READ_THE_BLOCK_BEFORE = ("attention.Q", "attention.K", "attention.V", "attention.sum")
_OUTSIDE = {
    "embeddings.token": (),
    "embeddings.position": (),
    "embeddings.segment": (),
    "embeddings.sum": ("embeddings.token", "embeddings.position", "embeddings.segment"),
    "embeddings.output": ("embeddings.sum",),
    "mlm.activation": ("mlm.pre_activation",),
    "mlm.output": ("mlm.activation",),
    "logits": ("mlm.output",),
}


def block_of(name: str) -> int | None:
    """The number of the block that an intermediate belongs to; None outside of the blocks."""
    first = name.partition(".")[0]
    return int(first.removeprefix("layer_")) if first.startswith("layer_") else None


def operation_of(name: str) -> str:
    """What made an intermediate.

    >>> operation_of("layer_2.attention.attention_weights")
    'softmax'
    """
    return OPERATIONS[_within(name)]


def inputs_of(name: str, layers: int) -> tuple[str, ...]:
    """The intermediates that one is computed from, besides parameters, in a model of so many blocks.

    >>> inputs_of("layer_1.attention.sum", 3)
    ('layer_1.attention.projection', 'layer_0.output')
    """
    if name == "mlm.pre_activation":
        return (_output_of(layers - 1),)
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    block, within = block_of(name), _within(name)
    if block is None:
        raise InvalidInputError("name", got=repr(name), expected="an intermediate of the masked-language-model pass")
    before = (_output_of(block - 1),) if within in _READ_THE_BLOCK_BEFORE else ()
    return (*(f"layer_{block}.{other}" for other in _WITHIN_BLOCK[within]), *before)


def _output_of(block: int) -> str:
    return f"layer_{block}.output" if block >= 0 else "embeddings.output"


def _within(name: str) -> str:
    within = name if block_of(name) is None else name.partition(".")[2]
    if within not in OPERATIONS:
        raise InvalidInputError("name", got=repr(name), expected="an intermediate of the masked-language-model pass")
    return within
