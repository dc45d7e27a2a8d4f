"""Variants of the block: what they change, what they leave as it is, and that off is off to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, IDS, MASK, TYPES, full_pass, small_bert

from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.norms import norm_backward, norm_forward
from mini_bert.model.parameters import Parameters
from mini_bert.ops import layer_norm, linear, rms_norm
from mini_bert.verification.conditions import ATTENTION_VARIANTS, BLOCK_VARIANTS
from mini_bert.verification.evidence import COMPLEX, LOOPS, TORCH
from mini_bert.verification.model_checks import check_tensors
from mini_bert.verification.scenario import LOSS, Scenario

OFF: dict[str, Any] = {
    "norm": "layer_norm",
    "norm_placement": "post",
    "feed_forward": "plain",
    "use_bias": True,
    "initializer": "truncated_normal",
    "scale_residual_init": False,
    "decoder_bias_init": "zeros",
}
every_variant = pytest.mark.parametrize("settings", BLOCK_VARIANTS.values(), ids=BLOCK_VARIANTS.keys())


def scenario_of(**settings: Any) -> Scenario:
    model = small_bert(**settings)
    model.parameters.buffer[...] = model.parameters.buffer.astype(np.float32)
    return Scenario("small", model, BATCH, DROPOUT, {LOSS: np.ones(())})


@every_variant
def test_every_tensor_of_a_variant_by_complex_step_and_by_loops(settings: dict[str, Any]) -> None:
    scenario = scenario_of(**{**settings, "heads": ("mlm",)})
    rows = list(check_tensors("variants", scenario, (COMPLEX, LOOPS), entries=2))
    assert {row.subject for row in rows} >= scenario.model.parameters.keys()
    for row in rows:
        assert row.passed, str(row)


@pytest.mark.reference
@every_variant
def test_every_tensor_of_a_variant_by_torch(settings: dict[str, Any]) -> None:
    for row in check_tensors("variants", scenario_of(**{**settings, "heads": ("mlm",)}), (TORCH,)):
        assert row.passed, str(row)


def test_variants_switched_off_are_the_faithful_model_to_the_bit() -> None:
    default, spelt_out = MiniBERT(), MiniBERT(ModelConfig(**OFF))
    assert spelt_out.config == default.config
    assert spelt_out.parameters.buffer.tobytes() == default.parameters.buffer.tobytes()
    ids = np.arange(2, 34).reshape(2, 16)
    assert spelt_out.forward(ids)[0].tobytes() == default.forward(ids)[0].tobytes()


def test_a_variant_has_these_parameters_and_no_others() -> None:
    def names(**settings: Any) -> set[str]:
        return set(small_bert(**settings).parameters)

    faithful = names()
    layers = range(2)
    assert names(norm_placement="pre") == faithful | {"gamma_final", "beta_final"}
    assert names(feed_forward="gated") == faithful | {f"{kind}3_{i}" for kind in ("W", "b") for i in layers}
    assert names(norm="rms_norm") == {name for name in faithful if not name.startswith("beta")}
    unbiased = {name for name in faithful if not name.startswith("beta") and not name.startswith("b")}
    assert names(use_bias=False) == unbiased | {"b_vocabulary"}
    heads = ("nsp", "token_classifier")
    assert {"b_pooler", "b_nsp", "b_token_classifier"} <= names(use_bias=False, heads=heads)


@every_variant
def test_rows_that_the_loss_reads_are_those_of_the_full_pass(settings: dict[str, Any]) -> None:
    """With dropout and padding; the final norm sees the read rows alone."""
    model = small_bert(**{**settings, "heads": ("mlm",)})
    shapes: dict[str, tuple[int, ...]] = {}

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        shapes.setdefault(name, value.shape)
        return value

    read, whole = MiniBERTGradients(model), MiniBERTGradients(model)
    loss, count = model.mlm_loss_and_gradients(BATCH, read, DROPOUT, tap=tap)
    logits, cache = full_pass(model, BATCH, "mlm", DROPOUT)
    targets = np.full(IDS.size, -100)
    targets[BATCH.masked_positions] = BATCH.target_ids
    mean, dlogits = whole.compute_mlm_loss_and_gradients(logits, targets.reshape(IDS.shape))
    whole.backward_from_logits(dlogits * count, cache)
    assert loss == pytest.approx(mean * count, rel=1e-12)
    for name, gradient in read.gradients.items():
        np.testing.assert_allclose(gradient, whole.gradients[name], rtol=1e-9, atol=1e-11, err_msg=name)
    if model.config.norm_placement == "pre":
        assert shapes["encoder.output"] == (count, 12)
        assert shapes["layer_1.attention.input"] == (*IDS.shape, 12)
        assert shapes["layer_1.feed_forward.input"] == (count, 12)


def test_names_of_intermediates() -> None:
    def names(**settings: Any) -> list[str]:
        return list(small_bert(**settings).encode(IDS, MASK, TYPES)[1])

    pre, gated = names(norm_placement="pre"), names(feed_forward="gated")
    assert pre[-1] == "encoder.output"
    assert [name for name in pre if name.startswith("layer_0.") and "attention." not in name] == [
        "layer_0.feed_forward.input",
        "layer_0.feed_forward.pre_activation",
        "layer_0.feed_forward.activation",
        "layer_0.feed_forward.projection",
        "layer_0.output",
    ]
    assert pre.index("layer_0.attention.input") < pre.index("layer_0.attention.Q") < pre.index("layer_0.attention.sum")
    assert set(gated) - set(names()) == {
        f"layer_{i}.feed_forward.{name}" for i in (0, 1) for name in ("gate", "product")
    }


def test_gradients_from_hidden_states_go_through_the_final_norm() -> None:
    model = small_bert(norm_placement="pre", heads=())
    hidden, cache = model.encode(IDS)
    assert np.array_equal(hidden, cache["encoder.output"])
    grads = MiniBERTGradients(model)
    cotangent = np.random.default_rng(0).normal(size=hidden.shape)
    grads.backward_from_hidden(cotangent, cache)
    np.testing.assert_allclose(grads.gradients["beta_final"], cotangent.sum(axis=(0, 1)), rtol=1e-12)


def test_rows_of_mean_0_are_normalised_alike() -> None:
    rng = np.random.default_rng(0)
    x, gamma = rng.normal(size=(4, 6)), rng.normal(size=6)
    x -= x.mean(axis=-1, keepdims=True)
    y, _ = rms_norm.forward(x, gamma)
    np.testing.assert_allclose(y, layer_norm.forward(x, gamma, None)[0], rtol=1e-12)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_the_table_of_norms(norm: str) -> None:
    rng, config = np.random.default_rng(0), ModelConfig(norm=norm, layer_norm_eps=0.5)
    x, gamma, beta, dy = (rng.normal(size=shape) for shape in ((3, 6), 6, 6, (3, 6)))
    y, saved = norm_forward(x, gamma, beta, config)
    of_rows = x - x.mean(axis=-1, keepdims=True) if norm == "layer_norm" else x
    root = np.sqrt((of_rows * of_rows).mean(axis=-1, keepdims=True) + 0.5)
    np.testing.assert_allclose(y, of_rows / root * gamma + (beta if norm == "layer_norm" else 0.0), rtol=1e-12)
    dx, dgamma, dbeta = norm_backward(dy, saved)
    assert dx.shape == x.shape
    np.testing.assert_allclose(dgamma, (dy * of_rows / root).sum(axis=0), rtol=1e-12)
    assert (dbeta is None) == (norm == "rms_norm")
    assert norm_backward(dy, norm_forward(x, gamma, None, config)[1])[2] is None


def test_without_a_bias() -> None:
    rng = np.random.default_rng(0)
    x, W, dy = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5)), rng.normal(size=(2, 3, 5))
    y, saved = linear.forward(x, W, None)
    np.testing.assert_allclose(y, np.einsum("bti,io->bto", x, W), rtol=1e-12)
    dx, dW, db = linear.backward(dy, saved)
    with_zeros = linear.backward(dy, linear.forward(x, W, np.zeros(5))[1])
    assert db is None
    assert (dx.tobytes(), dW.tobytes()) == (with_zeros[0].tobytes(), with_zeros[1].tobytes())


@pytest.mark.parametrize("settings", {**BLOCK_VARIANTS, **ATTENTION_VARIANTS}.values(), ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_a_variant_keeps_its_dtype(settings: dict[str, Any], dtype: Any) -> None:
    model = small_bert(dtype, **{**settings, "heads": ("mlm",), "hidden_size": 12, "num_attention_heads": 3})
    grads = Parameters(model.config, dtype)
    dtypes: set[Any] = set()

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        dtypes.add(value.dtype)
        return value

    model.mlm_loss_and_gradients(BATCH, grads, DROPOUT, tap=tap)
    assert dtypes == {np.dtype(dtype)}
    assert np.isfinite(grads.buffer).all()
