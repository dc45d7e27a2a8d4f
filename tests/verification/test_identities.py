"""Do the identities hold, and can each of them fail? Every one is broken once, in the operation or the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from mini_bert.config.schema import ModelConfig
from mini_bert.model import attention as attention_layer
from mini_bert.model import bert, block, heads, norms, positions
from mini_bert.ops import (
    attention,
    by_distance,
    cross_entropy,
    dropout,
    embedding,
    gate,
    gelu,
    gelu_new,
    layer_norm,
    linear,
    relative_bias,
    relative_keys,
    relu,
    rms_norm,
    rotary,
    sigmoid,
    softmax,
    tanh,
)
from mini_bert.ops.contract import Array
from mini_bert.verification.conditions import TINY
from mini_bert.verification.gradient_check import operations
from mini_bert.verification.identities import (
    MODEL_IDENTITIES,
    check_model_identities,
    check_operation_identities,
)
from mini_bert.verification.op_identities import OPERATION_IDENTITIES, apart, cancels
from mini_bert.verification.scenario import Scenario, away_from_start, make_scenario


def test_measures() -> None:
    assert apart([3.0, 4.0], [3.0, 4.0]) == 0.0
    assert apart([0.0, 0.0], [3.0, 4.0]) == 1.0
    assert apart([[1.0]], [1.0]) == np.inf
    assert apart(0.0, 0.0) == 0.0
    assert cancels(np.array([[1.0, -1.0], [2.0, -2.0 + 1e-9]])) == pytest.approx(1e-9 / np.sqrt(8.0))
    assert cancels(np.zeros((2, 3))) == 0.0
    assert cancels(np.array([[1.0, 5.0], [-1.0, -5.0]]), axis=0) == 0.0


# --- operations -----------------------------------------------------------------------------------------------------


def test_every_identity_of_operations_holds() -> None:
    rows = list(check_operation_identities(operations()))
    assert len(rows) == len(OPERATION_IDENTITIES)
    for row in rows:
        assert row.passed, str(row)
        assert row.error <= 1e-12, str(row)
        assert row.compared >= 1


def broken(operation: Any, forward: Any = None, backward: Any = None) -> Any:
    """The operation with one of its passes changed."""
    return SimpleNamespace(
        __name__="broken",
        CASES=operation.CASES,
        forward=forward or operation.forward,
        backward=backward or operation.backward,
    )


def with_output(operation: Any, change: Callable[[Array], Array]) -> Any:
    def forward(*values: Array, **constants: Any) -> Any:
        output, saved = operation.forward(*values, **constants)
        return change(output), saved

    return broken(operation, forward=forward)


def with_gradients(operation: Any, change: Callable[[list[Array]], Sequence[Array]]) -> Any:
    return broken(
        operation, backward=lambda dy, saved: tuple(change([np.array(g) for g in operation.backward(dy, saved)]))
    )


def of_one(place: int, change: Callable[[Array], Array]) -> Callable[[list[Array]], list[Array]]:
    return lambda gradients: [change(g) if number == place else g for number, g in enumerate(gradients)]


def sharper(x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
    """Layer normalisation divided by H − 1."""
    y, saved = layer_norm.forward(x, gamma, beta, eps=eps)
    return (y - beta) * np.sqrt(1 - 1 / x.shape[-1]) + beta, saved


def without_mask(*values: Array, **constants: Any) -> Any:
    return attention.forward(*values, **{**constants, "mask_BS": None})


def by_position(Q: Array, K: Array, *others: Array, **constants: Any) -> Any:
    """Keys have an order."""
    return attention.forward(Q, K * np.linspace(0.5, 1.5, K.shape[-2])[:, None], *others, **constants)


def with_bias_on_keys(Q: Array, K: Array, *others: Array, **constants: Any) -> Any:
    """A score that depends on the length of a key, which a shift changes."""
    return attention.forward(Q, K * (1.0 + (K * K).sum(axis=-1, keepdims=True)), *others, **constants)


def at_squares(x: Array, *, positions: Array, theta: float) -> Any:
    """Turned by the square of the position."""
    return rotary.forward(x, positions=positions * positions, theta=theta)


def uneven(table: Array) -> Array:
    """Rows that are not all alike any more."""
    return table * np.linspace(0.5, 1.5, len(table))[:, None]


def not_rescaled(x: Array, **constants: Any) -> Any:
    y, saved = dropout.forward(x, **constants)
    return y / saved.scale, saved


BROKEN_OPERATIONS: dict[tuple[str, str], Any] = {
    ("softmax", "rows sum to 1"): with_output(softmax, lambda p: p * (1 + 1e-9)),
    ("softmax", "the gradient of a row sums to 0"): with_gradients(softmax, of_one(0, lambda g: g + 1e-3)),
    ("softmax", "a shift of a whole row changes nothing"): broken(
        softmax, forward=lambda x: softmax.forward(x * (1 + 1e-3 * np.sign(x)))
    ),
    ("cross_entropy", "the gradient of a row sums to 0"): with_gradients(cross_entropy, of_one(0, np.abs)),
    ("cross_entropy", "a shift of a whole row changes nothing"): broken(
        cross_entropy, forward=lambda x, *, targets: cross_entropy.forward(1.01 * np.abs(x), targets=targets)
    ),
    ("layer_norm", "(y − β) / γ has mean 0 and mean square σ² / (σ² + ε)"): broken(layer_norm, forward=sharper),
    ("layer_norm", "dx is orthogonal to 1"): with_gradients(layer_norm, of_one(0, lambda g: g + 0.1)),
    ("layer_norm", "dx is orthogonal to x̂, but for what ε leaves"): with_gradients(
        layer_norm, of_one(0, lambda g: g - g[..., ::-1])
    ),
    ("layer_norm", "a shift of a whole row changes nothing"): broken(
        layer_norm, forward=lambda x, gamma, beta, *, eps: layer_norm.forward(np.tanh(x / 9), gamma, beta, eps=eps)
    ),
    ("layer_norm", "stretching x, and ε with it, changes nothing"): broken(
        layer_norm, forward=lambda x, gamma, beta, *, eps: layer_norm.forward(x, gamma, beta, eps=eps + 0.1)
    ),
    ("layer_norm", "Σ γ dγ = Σ dy (y − β), and Σ β dβ = Σ dy β"): with_gradients(
        layer_norm, of_one(1, lambda g: g / 3)
    ),
    ("rms_norm", "y / γ has the mean square q / (q + ε), q that of x"): with_output(rms_norm, lambda y: y * (1 + 1e-6)),
    ("rms_norm", "dx is orthogonal to x, but for what ε leaves"): with_gradients(
        rms_norm, of_one(0, lambda g: g - g[..., ::-1])
    ),
    ("rms_norm", "stretching x, and ε with it, changes nothing"): broken(
        rms_norm, forward=lambda x, gamma, *, eps: rms_norm.forward(x, gamma, eps=eps + 0.1)
    ),
    ("rms_norm", "Σ γ dγ = Σ dy y"): with_gradients(rms_norm, of_one(1, lambda g: g / 3)),
    ("linear", "Σ x dx = Σ W dW = Σ dy (y − b), and Σ b db = Σ dy b"): with_gradients(
        linear, of_one(1, lambda g: g / 4)
    ),
    ("embedding", "the rows of dE sum to the rows of dy"): broken(
        embedding, backward=lambda dy, saved: (np.sign(embedding.backward(dy, saved)[0]),)
    ),
    ("embedding", "Σ E dE = Σ dy y"): with_gradients(embedding, of_one(0, lambda g: g[::-1])),
    ("dropout", "every number is 0, or divided by 1 − p"): broken(dropout, forward=not_rescaled),
    ("dropout", "Σ x dx = Σ dy y"): with_gradients(dropout, of_one(0, lambda g: g * 0.9)),
    ("activations", "f(x) − f(−x) = x"): {"gelu": with_output(gelu, lambda y: y * (1 + 1e-8))},
    ("activations", "f′(x) + f′(−x) = 1"): {"gelu_new": with_gradients(gelu_new, of_one(0, lambda g: g * 1.001))},
    ("tanh", "tanh(−x) = −tanh(x)"): with_output(tanh, lambda y: y + 1e-6),
    ("tanh", "tanh(2x) = 2 tanh(x) / (1 + tanh(x)²)"): broken(tanh, forward=lambda x: tanh.forward(x + 1e-3 * x**3)),
    ("attention", "weights sum to 1"): None,
    ("attention", "padding has no weight and no gradient"): broken(attention, forward=without_mask),
    ("attention", "a shift of all keys changes nothing, and Σ dK = 0"): broken(attention, forward=with_bias_on_keys),
    ("attention", "keys have no order"): broken(attention, forward=by_position),
    ("attention", "Σ Q dQ = Σ K dK"): with_gradients(attention, of_one(1, lambda g: g * 2.0)),
    ("attention", "Σ V dV = Σ dC C"): with_gradients(attention, of_one(2, lambda g: g * 0.5)),
    ("attention", "a shift of a query's whole bias changes nothing"): with_gradients(attention, of_one(3, np.abs)),
    ("sigmoid", "σ(−x) = 1 − σ(x)"): with_output(sigmoid, lambda y: y * (1 + 1e-8)),
    ("sigmoid", "σ(x) = (1 + tanh(x/2)) / 2"): broken(sigmoid, forward=lambda x: sigmoid.forward(1.001 * x)),
    ("gate", "gates of 1 change nothing"): broken(gate, forward=lambda x, g: gate.forward(x, 1.001 * g)),
    ("gate", "Σ x dx = Σ g dg = Σ dy y"): with_gradients(gate, of_one(1, lambda g: g * 2.0)),
    ("rotary", "every pair keeps its length"): with_output(rotary, lambda y: y * (1 + 1e-6)),
    ("rotary", "inner products see the difference of positions alone"): broken(rotary, forward=at_squares),
    ("rotary", "backward turns back"): with_gradients(rotary, of_one(0, lambda g: g * 0.9)),
    ("by_distance", "Σ x dx = Σ dy y"): with_gradients(by_distance, of_one(0, lambda g: g[..., ::-1])),
    ("relative_keys", "embeddings that are all alike add the same for all keys"): broken(
        relative_keys, forward=lambda Q, E, **constants: relative_keys.forward(Q, uneven(E), **constants)
    ),
    ("relative_keys", "Σ Q dQ = Σ E dE = Σ dN N"): with_gradients(relative_keys, of_one(1, lambda g: g * 2.0)),
    ("relative_bias", "buckets that are all alike add the same for all keys"): broken(
        relative_bias, forward=lambda E, **constants: relative_bias.forward(uneven(E), **constants)
    ),
    ("relative_bias", "the rows of dE sum to the gradient of each head"): with_gradients(
        relative_bias, of_one(0, lambda g: g * 1.01)
    ),
    ("every operation", "backward is linear in its cotangent"): {
        "relu": with_gradients(relu, of_one(0, lambda g: g + 1e-6))
    },
    ("every operation", "two calls give the same bits"): None,
}


def test_each_identity_of_operations_is_broken_here() -> None:
    assert BROKEN_OPERATIONS.keys() == {(identity.operation, identity.statement) for identity in OPERATION_IDENTITIES}


@pytest.mark.parametrize(
    ("identity", "operation"),
    [(identity, operation) for identity, operation in BROKEN_OPERATIONS.items() if operation is not None],
    ids=[": ".join(identity) for identity, operation in BROKEN_OPERATIONS.items() if operation is not None],
)
def test_each_identity_of_operations_can_fail(identity: tuple[str, str], operation: Any) -> None:
    chosen = operation if isinstance(operation, dict) else {identity[0]: operation}
    rows = {row.subject.partition(": ")[2]: row for row in check_operation_identities(chosen)}
    row = rows[identity[1]]
    assert not row.passed
    assert 1e-10 < row.error < np.inf, row.detail


def test_weights_of_attention_that_do_not_sum_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a tap sees them, so the softmax within is broken."""
    monkeypatch.setattr(attention.softmax, "forward", lambda x: (np.exp(x) / 9.0, softmax.Saved(np.exp(x) / 9.0)))
    rows = check_operation_identities({"attention": attention})
    assert not next(row for row in rows if row.subject == "attention: weights sum to 1").passed


def test_an_operation_that_keeps_a_state() -> None:
    calls = iter(range(100))
    stateful = with_output(tanh, lambda y: y * (1.0 + next(calls) * 1e-15))
    rows = {row.subject: row for row in check_operation_identities({"tanh": stateful})}
    assert not rows["tanh: two calls give the same bits"].passed


def test_an_exception_is_the_worst_error() -> None:
    def raising(*_: Any, **__: Any) -> Any:
        raise IndexError("off by one")

    rows = list(check_operation_identities({"softmax": broken(softmax, forward=raising)}))
    assert {row.error for row in rows} == {np.inf}
    assert {row.detail for row in rows} == {"IndexError: off by one"}


# --- the model ------------------------------------------------------------------------------------------------------


def scenarios() -> list[Scenario]:
    """One that reads the loss, with padding, segments and dropout; one without a head; another block; other positions.

    That is a relative model, with gates. The last reads several tasks.
    """
    settings = {**TINY, "max_position_embeddings": 8}
    loss = make_scenario(
        "loss", away_from_start(ModelConfig(**settings)), tokens=6, lengths=(6, 4, 3), masked=(3, 0, 2)
    )
    bare = make_scenario(
        "bare",
        away_from_start(ModelConfig(**settings, heads=())),
        tokens=5,
        lengths=(5, 2),
        masked=(1, 1),
        dropout=False,
    )
    other = ModelConfig(**settings, norm_placement="pre", feed_forward="gated")
    other_block = make_scenario("other block", away_from_start(other), tokens=5, lengths=(5, 3), masked=(2, 1))
    relative = ModelConfig(**settings, position_embedding_type="t5_bias", attention_gate="head")
    other_positions = make_scenario(
        "other positions", away_from_start(relative), tokens=5, lengths=(5, 3), masked=(2, 1)
    )
    weights = {"masked_lm": 1.0, "next_sentence": 0.5, "token_order": 3.0}
    several = ModelConfig(**settings, heads=("mlm", "nsp", "std"))
    tasks = make_scenario("tasks", away_from_start(several), tokens=6, lengths=(6, 4), masked=(2, 1), tasks=weights)
    return [loss, bare, other_block, other_positions, tasks]


def test_every_identity_of_the_model_holds() -> None:
    rows = list(check_model_identities(scenarios()))
    assert len(rows) == len(MODEL_IDENTITIES)
    for row in rows:
        assert row.passed, str(row)
        assert row.error <= 1e-12, str(row)


class Break(NamedTuple):
    """What is put in the place of what."""

    owner: Any
    name: str
    make: Callable[[Any], Any]
    """Given what stands there."""


def patched_gradient(name: str, change: Callable[[Array], Array]) -> Break:
    """A parameter's gradient is changed at the end of the loss's backward pass, and of the one from hidden states."""

    def make(original: Any) -> Any:
        def backward(dx: Array, saved: Any, grads: Any, run: Any) -> None:
            original(dx, saved, grads, run)
            tensor = getattr(grads, name)
            tensor[...] = change(tensor.copy())

        return backward

    return Break(bert.embeddings, "embeddings_backward", make)


def without_residual(original: Any) -> Any:
    """The gradient of the residual path is lost."""

    def backward(
        dy: Array, saved: Any, params: Any, grads: Any, config: Any, run: Any, name: str, read: Any = None
    ) -> Any:
        dx = original(dy, saved, params, grads, config, run, name, read)
        return dx * 0.5

    return backward


def shifted_sum(original: Any) -> Any:
    def forward(x: Array, params: Any, config: Any, run: Any, name: str, read: Any = None) -> Any:
        tap = run.tap
        changed = run._replace(tap=lambda key, value: tap(key, value * 1.001 if key.endswith(".sum") else value))
        return original(x, params, config, changed, name, read)

    return forward


def unmasked(original: Any) -> Any:
    return lambda *values, **constants: original(*values, **{**constants, "mask_BS": None})


def with_lowered_scores(original: Any) -> Any:
    """Padding is made unlikely, but not impossible."""

    def forward(Q: Array, K: Array, *others: Any, **constants: Any) -> Any:
        mask = constants.pop("mask_BS", None)
        if mask is not None:
            K = K - 3.0 * ~mask[:, None, :, None] * np.sign(Q.mean(axis=-2, keepdims=True))
        return original(Q, K, *others, **{**constants, "mask_BS": None})

    return forward


def first_head_twice(original: Any) -> Any:
    """The order of heads matters: the first counts double."""

    def forward(Q: Array, K: Array, V: Array, bias: Any, **constants: Any) -> Any:
        V = V.copy()
        V[:, 0] *= 2.0
        return original(Q, K, V, bias, **constants)

    return forward


def later_keys_nearer(original: Any) -> Any:
    """A bias that knows where in the row a key stands."""

    def forward(E: Array, *, keys: int, **constants: Any) -> Any:
        N, saved = original(E, keys=keys, **constants)
        return N + 0.1 * np.arange(keys) ** 2, saved

    return forward


def without_sign(original: Any) -> Any:
    return lambda dN, saved: (np.abs(original(dN, saved)[0]),)


def decoder_not_counted(original: Any) -> tuple[Any, Any]:
    forward, backward = original

    def without(dlogits: Array, saved: Any, params: Any, grads: Any, config: Any, run: Any) -> Array:
        table = grads.embeddings.token_embeddings
        before = table.copy()
        dx = backward(dlogits, saved, params, grads, config, run)
        table[...] = before
        return np.asarray(dx)

    return forward, without


def overwriting(original: Any) -> Any:
    """Gradients are assigned, not added."""

    def backward(dx: Array, saved: Any, grads: Any, run: Any) -> None:
        grads.token_embeddings[...] = 0.0
        original(dx, saved, grads, run)

    return backward


def ignoring_first_row(original: Any) -> Any:
    return lambda *values, **options: original(*values, **{**options, "first_row": 0})


def vocabulary_of_probabilities(original: Any) -> Any:
    """The target is not subtracted."""

    def backward(dloss: Array, saved: Any) -> Any:
        return (saved.exponentials * (dloss / saved.totals),)

    return backward


def always_dropping(original: Any) -> Any:
    return lambda x, *, p, stream, **options: original(x, p=max(p, 0.3), stream=stream, **options)


class Drawing:
    """A pass that keeps a state between calls."""

    def __init__(self, original: Any) -> None:
        self.original, self.calls = original, 0

    def __call__(self, x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
        self.calls += 1
        return self.original(x, gamma, beta, eps=eps * self.calls * 1e6)


def a_little_more(original: Any) -> Any:
    """An output that is too large by a thousandth."""

    def forward(*values: Any, **options: Any) -> Any:
        output, saved = original(*values, **options)
        return output * 1.001, saved

    return forward


def never_twice_the_same(original: Any) -> Any:
    """A block that keeps a state between calls."""
    calls = iter(range(1, 1000))
    return lambda x, *others: original(x * (1.0 + 1e-9 * next(calls)), *others)


def last_positions_only(original: Any) -> Any:
    """What the loss reads is computed from other rows than it should."""

    def gather(self: Any, x: Array) -> Array:
        return original(self, x[:, ::-1])

    return gather


def ignoring_the_weight(original: Any) -> Any:
    """Each task learns as much as any other."""
    return lambda dloss, saved: original(np.ones_like(dloss), saved)


BROKEN_MODELS: dict[str, Break] = {
    "the tied gradient is the sum of its two uses": Break(heads.HEADS, "mlm", decoder_not_counted),
    "the three embedding tables collect the same gradient": patched_gradient("segment_embeddings", lambda g: g * 0.5),
    "a sublayer adds to the residual stream": Break(bert.block, "block_forward", shifted_sum),
    "the residual stream's gradient is that of the sum plus that through the sublayer": Break(
        bert.block, "block_backward", without_residual
    ),
    "attention weights sum to 1, and are 0 on padding": Break(attention_layer.attention, "forward", unmasked),
    "padding behind a row changes nothing": Break(attention_layer.attention, "forward", unmasked),
    "what stands under padding changes nothing": Break(attention_layer.attention, "forward", with_lowered_scores),
    "positions that are relative may all be later": Break(positions.relative_bias, "forward", later_keys_nearer),
    "the gradient of a table of distances sums to 0": Break(positions.relative_bias, "backward", without_sign),
    "heads have no order": Break(attention_layer.attention, "forward", first_head_twice),
    "computing only what the loss reads changes nothing": Break(bert.Reading, "gather", last_positions_only),
    "computing only what some task reads changes nothing": Break(bert.Reading, "gather", last_positions_only),
    "tasks add up, each times its weight": Break(bert.cross_entropy, "backward", ignoring_the_weight),
    "shards sum to the whole, dropout included": Break(attention_layer.attention, "forward", ignoring_first_row),
    "the loss's backward pass adds to what is there": Break(bert.embeddings, "embeddings_backward", overwriting),
    "the backward pass from hidden states adds to what is there": Break(
        bert.embeddings, "embeddings_backward", overwriting
    ),
    "the gradient of the vocabulary's bias sums to 0": Break(
        bert.cross_entropy, "backward", vocabulary_of_probabilities
    ),
    "pre-LN sublayers that add nothing leave the embeddings": Break(
        bert.pre_norm_block, "block_forward", a_little_more
    ),
    "the final norm makes rows of mean square 1": Break(bert, "norm_forward", a_little_more),
    "gates that are all 1 give the plain feed-forward network": Break(
        block.gated_feed_forward, "feed_forward_forward", a_little_more
    ),
    "blocks computed again give the same bits": Break(bert.block, "block_forward", never_twice_the_same),
    "dropout with probability 0 is none": Break(attention_layer.attention.dropout, "forward", always_dropping),
    "two passes give the same bits and change no weight": Break(norms.layer_norm, "forward", Drawing),
}


def test_each_identity_of_the_model_is_broken_here() -> None:
    assert BROKEN_MODELS.keys() == {identity.statement for identity in MODEL_IDENTITIES}


@pytest.mark.parametrize(("statement", "fault"), BROKEN_MODELS.items(), ids=BROKEN_MODELS.keys())
def test_each_identity_of_the_model_can_fail(statement: str, fault: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(fault.owner, dict):
        monkeypatch.setitem(fault.owner, fault.name, fault.make(fault.owner[fault.name]))
    else:
        monkeypatch.setattr(fault.owner, fault.name, fault.make(getattr(fault.owner, fault.name)))
    rows = {row.subject: row for row in check_model_identities(scenarios())}
    row = rows[f"model: {statement}"]
    assert not row.passed, str(row)
    assert row.error < np.inf, row.detail
