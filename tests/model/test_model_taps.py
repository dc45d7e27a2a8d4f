"""The cache and the taps: one name for every intermediate, forward and backward."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_bert import BATCH, IDS, MASK, TYPES, small_bert

from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.verification.gradient_check import COMPLEX_STEP, check_samples

EMBEDDINGS = ["token", "position", "segment", "sum", "output"]
ATTENTION = ["Q", "K", "V", "scores", "attention_weights", "context", "projection", "sum", "output"]
FEED_FORWARD = ["pre_activation", "activation", "projection", "sum"]
HEADS = {
    "mlm": ["mlm.pre_activation", "mlm.activation", "mlm.output", "logits"],
    "nsp": ["pooler.pre_activation", "pooler.output", "logits"],
    "classifier": ["pooler.pre_activation", "pooler.output", "logits"],
    "token_classifier": ["logits"],
}


def encoder_names(layers: int = 2) -> list[str]:
    names = [f"embeddings.{name}" for name in EMBEDDINGS]
    for i in range(layers):
        names += [f"layer_{i}.attention.{name}" for name in ATTENTION]
        names += [f"layer_{i}.feed_forward.{name}" for name in FEED_FORWARD]
        names.append(f"layer_{i}.output")
    return names


def recorder(into: dict[str, Array]):
    def record(name: str, value: Array) -> Array:
        assert name not in into
        into[name] = value.copy()
        return value

    return record


@pytest.mark.parametrize("head", HEADS)
def test_names_stand_in_order_of_computation_and_again_for_gradients(head: str) -> None:
    model = small_bert(heads=(head,))
    logits, cache = model.forward(IDS, MASK, TYPES)
    assert list(cache) == encoder_names() + HEADS[head]
    assert list(cache.keys()) == list(cache)
    assert len(cache) == len(list(cache))
    np.testing.assert_array_equal(cache["logits"], logits)

    gradients: dict[str, Array] = {}
    MiniBERTGradients(model).backward_from_logits(np.ones_like(logits), cache, tap=recorder(gradients))
    assert set(gradients) == set(cache)
    for name, gradient in gradients.items():
        assert gradient.shape == cache[name].shape, name


def test_shapes() -> None:
    _, cache = small_bert().forward(IDS, MASK, TYPES)
    B, T, H, A, K, I, V = 3, 6, 12, 3, 4, 10, 13
    expected = dict.fromkeys(cache, (B, T, H))
    expected["embeddings.position"] = (T, H)
    for i in range(2):
        expected |= {f"layer_{i}.attention.{name}": (B, A, T, K) for name in "QKV"}
        expected |= {f"layer_{i}.attention.{name}": (B, A, T, T) for name in ("scores", "attention_weights")}
        expected |= {f"layer_{i}.feed_forward.{name}": (B, T, I) for name in ("pre_activation", "activation")}
    expected["logits"] = (B, T, V)
    assert {name: array.shape for name, array in cache.items()} == expected


def test_encode_has_the_same_names_without_a_head() -> None:
    model = small_bert()
    hidden, cache = model.encode(IDS, MASK, TYPES)
    assert list(cache) == encoder_names()
    np.testing.assert_array_equal(hidden, cache["layer_1.output"])
    _, with_head = model.forward(IDS, MASK, TYPES)
    for name in cache:
        np.testing.assert_array_equal(cache[name], with_head[name])


def test_loss_only_pass_has_the_same_names() -> None:
    model = small_bert()
    seen: dict[str, Array] = {}
    model.mlm_loss_and_gradients(BATCH, Parameters(model.config, np.float64), tap=recorder(seen))
    assert list(seen) == encoder_names() + HEADS["mlm"]
    _, cache = model.forward(IDS, MASK, TYPES)
    for name in seen:
        if name.startswith(("embeddings", "layer_0")):
            np.testing.assert_array_equal(seen[name], cache[name])
    np.testing.assert_allclose(
        seen["layer_1.output"], cache["layer_1.output"].reshape(-1, 12)[BATCH.masked_positions], rtol=1e-11
    )


def test_tap_that_looks_changes_nothing() -> None:
    model = small_bert()
    plain, plain_cache = model.forward(IDS, MASK, TYPES)
    seen: dict[str, Array] = {}
    logits, cache = model.forward(IDS, MASK, TYPES, tap=recorder(seen))
    assert logits.tobytes() == plain.tobytes()
    assert list(seen) == list(plain_cache)
    for name in cache:
        np.testing.assert_array_equal(cache[name], plain_cache[name])
        np.testing.assert_array_equal(cache[name], seen[name])


def test_recorded_arrays_stay_as_they_were() -> None:
    """Nothing recorded is overwritten later, neither by the rest of the forward pass nor by the backward pass."""
    model = small_bert()
    seen: dict[str, Array] = {}
    logits, cache = model.forward(IDS, MASK, TYPES, tap=recorder(seen))
    logits += 1.0  # the caller's own
    MiniBERTGradients(model).backward_from_logits(np.ones_like(logits), cache)
    for name in cache:
        np.testing.assert_array_equal(cache[name], seen[name])


def test_arrays_that_a_tap_returns_are_never_written_to() -> None:
    model = small_bert()
    given: dict[str, tuple[Array, Array]] = {}

    def replace(name: str, value: Array) -> Array:
        fresh = value * 1.01
        fresh.flags.writeable = False
        given[name] = fresh, fresh.copy()
        return fresh

    logits, cache = model.forward(IDS, MASK, TYPES, tap=replace)
    forward, given = given, {}
    MiniBERTGradients(model).backward_from_logits(np.ones_like(logits), cache, tap=replace)
    model.mlm_loss_and_gradients(BATCH, Parameters(model.config, np.float64), tap=replace)
    for fresh, before in (*forward.values(), *given.values()):
        np.testing.assert_array_equal(fresh, before)


@pytest.mark.parametrize("name", encoder_names(1) + HEADS["mlm"])
def test_what_a_tap_returns_flows_on(name: str) -> None:
    model = small_bert(num_hidden_layers=1)
    plain, plain_cache = model.forward(IDS, MASK, TYPES)
    shift = 0.5 * np.random.default_rng(1).normal(size=plain_cache[name].shape)
    logits, cache = model.forward(IDS, MASK, TYPES, tap=lambda n, v: v + shift if n == name else v)
    changed = [n for n in cache if not np.array_equal(cache[n], plain_cache[n])]
    assert changed[0] == name
    np.testing.assert_array_equal(cache[name], plain_cache[name] + shift)
    assert changed[-1] == "logits"
    assert np.abs(logits - plain).max() > 1e-6


@pytest.mark.parametrize(
    "name", [n for n in encoder_names(1) + HEADS["mlm"] if n != "layer_0.attention.attention_weights"]
)
def test_gradients_see_what_a_tap_returned(name: str) -> None:
    """An intermediate that is shifted by a constant leaves exact gradients, of the shifted pass."""
    shape = small_bert(num_hidden_layers=1).forward(IDS, MASK, TYPES)[1][name].shape
    shift = 0.5 * np.random.default_rng(2).normal(size=shape)

    def shifted(model: MiniBERT):
        return model.forward(IDS, MASK, TYPES, tap=lambda n, v: v + shift if n == name else v)

    model = small_bert(num_hidden_layers=1)
    logits, cache = shifted(model)
    cotangent = np.random.default_rng(3).normal(size=logits.shape)
    grads = MiniBERTGradients(model)
    grads.backward_from_logits(cotangent, cache)
    moved = small_bert(np.complex128, num_hidden_layers=1)
    outcome = check_samples(
        name, COMPLEX_STEP, lambda: (cotangent * shifted(moved)[0]).sum(), moved.parameters, grads.gradients, entries=1
    )
    assert outcome.passed, str(outcome)


def test_tap_of_the_backward_pass_replaces_gradients() -> None:
    """Without the gradient of the second block's attention weights, its queries and keys do not learn."""
    model = small_bert()
    logits, cache = model.forward(IDS, MASK, TYPES)
    grads = MiniBERTGradients(model)

    def cut(name: str, value: Array) -> Array:
        return np.zeros_like(value) if name == "layer_1.attention.attention_weights" else value

    grads.backward_from_logits(np.random.default_rng(0).normal(size=logits.shape), cache, tap=cut)
    for letter in "QK":
        assert not grads.gradients[f"W_{letter}_1"].any()
        assert grads.gradients[f"W_{letter}_0"].any()
    assert grads.gradients["W_V_1"].any()


@pytest.mark.parametrize("letter", ["Q", "K", "V"])
def test_tap_of_the_backward_pass_replaces_the_gradients_of_projections(letter: str) -> None:
    model = small_bert()
    logits, cache = model.forward(IDS, MASK, TYPES)
    grads = MiniBERTGradients(model)

    def cut(name: str, value: Array) -> Array:
        return np.zeros_like(value) if name == f"layer_0.attention.{letter}" else value

    grads.backward_from_logits(np.random.default_rng(0).normal(size=logits.shape), cache, tap=cut)
    for other in "QKV":
        assert bool(grads.gradients[f"W_{other}_0"].any()) == (other != letter)


def gelu(x: Array) -> Array:
    return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.flat]).reshape(x.shape)


def layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + 1e-12) * gamma + beta


def test_uniform_attention_gives_the_logits_worked_out_by_hand() -> None:
    """Each position then adds the same vector: the mean of all values, through W_O."""
    model = small_bert(num_hidden_layers=1)

    def uniform(name: str, value: Array) -> Array:
        return np.full_like(value, 1 / 6) if name.endswith("attention_weights") else value

    logits, cache = model.forward(IDS, token_type_ids=TYPES, tap=uniform)
    p = model.parameters
    x = p["token_embeddings"][IDS] + p["position_embeddings"][:6] + p["segment_embeddings"][TYPES]
    x = layer_norm(x, p["gamma_embeddings"], p["beta_embeddings"])
    mean_value = x.mean(axis=1, keepdims=True) @ p["W_V_0"] + p["b_V_0"]
    u = layer_norm(x + mean_value @ p["W_O_0"] + p["b_O_0"], p["gamma1_0"], p["beta1_0"])
    f = gelu(u @ p["W1_0"] + p["b1_0"]) @ p["W2_0"] + p["b2_0"]
    y = layer_norm(u + f, p["gamma2_0"], p["beta2_0"])
    h = layer_norm(gelu(y @ p["W_mlm"] + p["b_mlm"]), p["gamma_mlm"], p["beta_mlm"])
    expected = h @ p["token_embeddings"].T + p["b_vocabulary"]
    np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(cache["layer_0.attention.attention_weights"], 1 / 6)
    assert np.abs(logits - model.forward(IDS, token_type_ids=TYPES)[0]).max() > 1e-2


def test_patch_in_another_precision_is_taken_over_in_the_models_own() -> None:
    model = small_bert(np.float32)
    logits, cache = model.forward(IDS, tap=lambda name, value: value.astype(np.float64))
    assert logits.dtype == np.float32
    assert {array.dtype for array in cache.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("tap", [lambda name, value: None, lambda name, value: value[:1]])
def test_tap_that_returns_something_else_is_told_so(tap) -> None:
    with pytest.raises(InvalidInputError, match=r"tap: got .* for embeddings\.token; expected an array of shape") as e:
        small_bert().forward(IDS, tap=tap)
    assert e.value.argument == "tap"
