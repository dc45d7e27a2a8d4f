"""Each part of the model by itself: its result beside loops, its gradients beside the complex step.

A wrong line in one part shows in the gradients of every part before it; here, only the part itself is red.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, IDS, MASK, TYPES, small_bert

from mini_bert.model import attention, block, embeddings, feed_forward, gated_feed_forward, pre_norm_block
from mini_bert.model.bert import MiniBERT
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.heads import HEADS
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.verification.gradient_check import COMPLEX_STEP, check_samples
from mini_bert.verification.oracles import bert as loops

B, T = IDS.shape
RUN = Pass(B, T, MASK, DROPOUT, BATCH.first_row)
LAYER = 1


class Composite(NamedTuple):
    """Forward and backward pass of a part, and the same by loops; x is what flows into it."""

    forward: Callable[[MiniBERT, Array], tuple[Array, Any]]
    backward: Callable[[Array, Any, MiniBERT, Parameters], Any]
    """Adds the gradients of the parameters, and returns that of x (None where there is no x)."""
    by_loops: Callable[[loops.Conditions, Any], Any]
    parameters: tuple[str, ...]
    settings: Mapping[str, Any] = MappingProxyType({})


def head(name: str, *parameters: str) -> Composite:
    forward, backward = HEADS[name]
    return Composite(
        lambda model, x: forward(x, model.parameters, model.config, RUN),
        lambda dy, saved, model, grads: backward(dy, saved, model.parameters, grads, model.config, RUN),
        lambda run, x: loops.head_logits(run, name, x),
        parameters,
        {"heads": (name,)},
    )


ATTENTION = ("W_Q_1", "W_K_1", "W_V_1", "b_Q_1", "b_K_1", "b_V_1", "W_O_1", "b_O_1")
FEED_FORWARD = ("W1_1", "b1_1", "W2_1", "b2_1")
COMPOSITES = {
    "embeddings": Composite(
        lambda model, x: embeddings.embeddings_forward(IDS, TYPES, model.parameters.embeddings, model.config, RUN),
        lambda dy, saved, model, grads: embeddings.embeddings_backward(dy, saved, grads.embeddings, RUN),
        lambda run, x: loops.embeddings(run, IDS.tolist(), TYPES.tolist()),
        ("token_embeddings", "position_embeddings", "segment_embeddings", "gamma_embeddings", "beta_embeddings"),
    ),
    "attention": Composite(
        lambda model, x: attention.attention_forward(
            x, model.parameters.layers[LAYER].attention, model.config, RUN, f"layer_{LAYER}.attention"
        ),
        lambda dy, saved, model, grads: attention.attention_backward(
            dy, saved, model.parameters.layers[LAYER].attention, grads.layers[LAYER].attention, RUN, "layer_1.attention"
        )[0],
        lambda run, x: loops.multi_head_attention(run, x, LAYER),
        ATTENTION,
    ),
    "block": Composite(
        lambda model, x: block.block_forward(x, model.parameters.layers[LAYER], model.config, RUN, f"layer_{LAYER}"),
        lambda dy, saved, model, grads: block.block_backward(
            dy, saved, model.parameters.layers[LAYER], grads.layers[LAYER], model.config, RUN, f"layer_{LAYER}"
        ),
        lambda run, x: loops.block(run, x, LAYER),
        (*ATTENTION, "gamma1_1", "beta1_1", *FEED_FORWARD, "gamma2_1", "beta2_1"),
    ),
    "pre_norm_block": Composite(
        lambda model, x: pre_norm_block.block_forward(
            x, model.parameters.layers[LAYER], model.config, RUN, f"layer_{LAYER}"
        ),
        lambda dy, saved, model, grads: pre_norm_block.block_backward(
            dy, saved, model.parameters.layers[LAYER], grads.layers[LAYER], model.config, RUN, f"layer_{LAYER}"
        ),
        lambda run, x: loops.pre_norm_block(run, x, LAYER),
        (*ATTENTION, "gamma1_1", "beta1_1", *FEED_FORWARD, "gamma2_1", "beta2_1"),
        {"norm_placement": "pre"},
    ),
    "gated_feed_forward": Composite(
        lambda model, x: gated_feed_forward.feed_forward_forward(
            x, model.parameters.layers[LAYER].feed_forward, model.config, RUN, f"layer_{LAYER}.feed_forward"
        ),
        lambda dy, saved, model, grads: gated_feed_forward.feed_forward_backward(
            dy, saved, grads.layers[LAYER].feed_forward, model.config, RUN, f"layer_{LAYER}.feed_forward"
        ),
        lambda run, x: loops.feed_forward(run, x, LAYER),
        (*FEED_FORWARD, "W3_1", "b3_1"),
        {"feed_forward": "gated"},
    ),
    "mlm": head("mlm", "W_mlm", "b_mlm", "gamma_mlm", "beta_mlm", "token_embeddings", "b_vocabulary"),
    "nsp": head("nsp", "W_pooler", "b_pooler", "W_nsp", "b_nsp"),
    "classifier": head("classifier", "W_pooler", "b_pooler", "W_classifier", "b_classifier"),
    "token_classifier": head("token_classifier", "W_token_classifier", "b_token_classifier"),
}
every_composite = pytest.mark.parametrize("name", COMPOSITES)


def stream_of(dtype: Any) -> Array:
    return np.array(np.random.default_rng(5).normal(size=(B, T, 12)), dtype)


@every_composite
def test_forward_of_a_composite_is_what_the_loops_say(name: str) -> None:
    part = COMPOSITES[name]
    model, x = small_bert(**part.settings), stream_of(np.float64)
    parameters = {key: value.tolist() for key, value in model.parameters.items()}
    conditions = loops.Conditions(model.config, parameters, MASK.tolist(), DROPOUT, BATCH.first_row)
    y, _ = part.forward(model, x)
    np.testing.assert_allclose(y, part.by_loops(conditions, x.tolist()), rtol=1e-11, atol=1e-12)


@every_composite
def test_gradients_of_a_composite_by_complex_step(name: str) -> None:
    part = COMPOSITES[name]
    model, moved = small_bert(**part.settings), small_bert(np.complex128, **part.settings)
    x, moved_x = stream_of(np.float64), stream_of(np.complex128)
    y, saved = part.forward(model, x)
    cotangent = np.random.default_rng(6).normal(size=y.shape)
    grads = Parameters(model.config, np.float64)
    dx = part.backward(cotangent, saved, model, grads)
    inputs = {key: moved.parameters[key] for key in part.parameters}
    gradients = {key: grads[key] for key in part.parameters}
    if dx is not None:
        inputs["x"], gradients["x"] = moved_x, dx
    check = check_samples(
        name, COMPLEX_STEP, lambda: (cotangent * part.forward(moved, moved_x)[0]).sum(), inputs, gradients
    )
    assert check.passed, str(check)
    assert not any(grads[key].any() for key in grads if key not in part.parameters)


@every_composite
def test_gradients_of_a_composite_are_added_to_what_is_there(name: str) -> None:
    part = COMPOSITES[name]
    model = small_bert(**part.settings)
    y, saved = part.forward(model, stream_of(np.float64))
    cotangent = np.random.default_rng(6).normal(size=y.shape)
    fresh, filled = (Parameters(model.config, np.float64) for _ in range(2))
    filled.buffer[...] = 1.0
    for grads in (fresh, filled):
        part.backward(cotangent.copy(), saved, model, grads)
    for key in part.parameters:
        np.testing.assert_allclose(
            filled[key] - 1.0, fresh[key], atol=1e-12 * max(1.0, np.abs(fresh[key]).max()), err_msg=key
        )


def test_attention_of_chosen_queries_is_that_of_all() -> None:
    """In the last block only the positions that the loss reads ask."""
    model, x = small_bert(), stream_of(np.float64)
    part = COMPOSITES["attention"]
    read = Reading.of(BATCH.masked_positions, B, T)
    y, _ = part.forward(model, x)
    some, _ = attention.attention_forward(
        x, model.parameters.layers[LAYER].attention, model.config, RUN, f"layer_{LAYER}.attention", read
    )
    np.testing.assert_allclose(some, y.reshape(-1, 12)[BATCH.masked_positions], rtol=1e-11, atol=1e-12)


def test_feed_forward_network_by_complex_step() -> None:
    model, moved = small_bert(), small_bert(np.complex128)
    x, moved_x = stream_of(np.float64), stream_of(np.complex128)
    params, name = model.parameters.layers[LAYER].feed_forward, f"layer_{LAYER}.feed_forward"
    y, saved = feed_forward.feed_forward_forward(x, params, model.config, RUN, name)
    cotangent = np.random.default_rng(6).normal(size=y.shape)
    grads = Parameters(model.config, np.float64)
    dx = feed_forward.feed_forward_backward(cotangent, saved, grads.layers[LAYER].feed_forward, model.config, RUN, name)

    def objective() -> Any:
        params = moved.parameters.layers[LAYER].feed_forward
        return (cotangent * feed_forward.feed_forward_forward(moved_x, params, moved.config, RUN, name)[0]).sum()

    check = check_samples(
        "feed_forward",
        COMPLEX_STEP,
        objective,
        {"x": moved_x, **{key: moved.parameters[key] for key in FEED_FORWARD}},
        {"x": dx, **{key: grads[key] for key in FEED_FORWARD}},
    )
    assert check.passed, str(check)
