"""Positions in attention and its gate: each variant alone, with each other, and switched off."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from small_bert import BATCH, DROPOUT, IDS, MASK, TYPES, full_pass, small_bert
from test_model_masked_rows import LAYOUTS, full_loss_and_gradients, masked

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import ConfigError, InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.parameters import Parameters
from mini_bert.ops import relative_bias
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream
from mini_bert.verification.gradient_check import COMPLEX_STEP, check_samples, gradient_errors
from mini_bert.verification.oracles import bert as loops

FEW_BUCKETS = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 8}
POSITIONS: dict[str, dict[str, Any]] = {
    "absolute": {},
    "rotary": {"position_embedding_type": "rotary", "rope_theta": 50.0},
    "t5_bias": {"position_embedding_type": "t5_bias", **FEW_BUCKETS},
    "relative_key": {"position_embedding_type": "relative_key"},
    "alibi": {"position_embedding_type": "alibi"},
}
RELATIVE = [name for name in POSITIONS if name != "absolute"]
GATES: dict[str, dict[str, Any]] = {
    "no gate": {},
    "gated heads": {"attention_gate": "head"},
    "gated numbers": {"attention_gate": "element"},
}
VARIANTS = {
    f"{position}, {gate}": {**POSITIONS[position], **GATES[gate]}
    for position, gate in product(POSITIONS, GATES)
    if (position, gate) != ("absolute", "no gate")
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_relative = pytest.mark.parametrize("position", RELATIVE)

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def gradients_of(model: MiniBERT, batch: Batch, dropout: RandomStream | None = None) -> Parameters:
    gradients = Parameters(model.config, model.dtype)
    model.mlm_loss_and_gradients(batch, gradients, dropout)
    return gradients


# --- only what the loss reads ---------------------------------------------------------------------------------------


@every_variant
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["no dropout", "dropout"])
def test_computing_only_what_the_loss_reads_is_exact(variant: str, layout: str, dropout: RandomStream | None) -> None:
    batch = LAYOUTS[layout]
    model = small_bert(**VARIANTS[variant])
    expected_loss, expected = full_loss_and_gradients(model, batch, dropout)
    gradients = Parameters(model.config, np.float64)
    loss, _ = model.mlm_loss_and_gradients(batch, gradients, dropout)
    assert loss == pytest.approx(expected_loss, rel=1e-13)
    for tensor in gradient_errors(gradients, expected):
        assert tensor.error <= 1e-12, tensor


@every_variant
def test_nothing_to_read_is_no_loss(variant: str) -> None:
    model = small_bert(**VARIANTS[variant])
    assert model.mlm_logits(masked()).shape == (0, 13)
    assert model.mlm_loss_and_gradients(masked(), Parameters(model.config, np.float64)) == (0.0, 0)


def test_queries_are_where_they_stand_in_their_rows() -> None:
    """Three masked positions of one row, one and two of the others: what a loss reads in the last block."""
    model = small_bert(num_hidden_layers=1, **POSITIONS["alibi"])
    seen: dict[str, Array] = {}
    model.mlm_logits(BATCH, tap=lambda name, value: seen.setdefault(name, value.copy()))
    bias = seen["layer_0.attention.position_bias"]
    slopes = np.array([2.0**-4, 2.0**-8, 2.0**-2])
    for b, j, t in ((0, 0, 1), (0, 1, 2), (0, 2, 4), (1, 0, 2), (2, 0, 1), (2, 1, 2)):
        np.testing.assert_allclose(bias[b, :, j], -slopes[:, None] * np.abs(t - np.arange(6)), rtol=1e-15)


# --- against loops and the complex step -----------------------------------------------------------------------------


@every_variant
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
def test_hidden_states_are_those_of_the_loops(variant: str, bias: bool) -> None:
    model = small_bert(use_bias=bias, **VARIANTS[variant])
    parameters = {name: value.tolist() for name, value in model.parameters.items()}
    run = loops.Conditions(model.config, parameters, MASK.tolist(), DROPOUT, BATCH.first_row)
    expected = loops.head_logits(run, "mlm", loops.hidden_states(run, IDS.tolist(), TYPES.tolist()))
    np.testing.assert_allclose(full_pass(model, BATCH, "mlm", DROPOUT)[0], expected, rtol=1e-10, atol=1e-11)


@every_variant
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
def test_gradients_by_complex_step(variant: str, bias: bool) -> None:
    settings = {**VARIANTS[variant], "use_bias": bias}
    model, moved = small_bert(**settings), small_bert(np.complex128, **settings)
    gradients = gradients_of(model, BATCH, DROPOUT)
    cotangent = np.random.default_rng(0).normal(size=(3, 6, 13))
    _, cache = full_pass(model, BATCH, "mlm", DROPOUT)
    full = MiniBERTGradients(model)
    full.backward_from_logits(cotangent, cache)
    check = check_samples(
        variant,
        COMPLEX_STEP,
        lambda: (cotangent * full_pass(moved, BATCH, "mlm", DROPOUT)[0]).sum(),
        moved.parameters,
        full.gradients,
        entries=4,
    )
    assert check.passed, str(check)
    own = [name for name in gradients if name.startswith(("relative_", "W_G", "b_G"))]
    assert own or variant.startswith(("rotary, no gate", "alibi, no gate"))
    assert all(gradients[name].any() for name in own)


@every_variant
def test_gradients_are_added_to_what_is_there(variant: str) -> None:
    model = small_bert(**VARIANTS[variant])
    once = gradients_of(model, BATCH).buffer
    gradients = Parameters(model.config, np.float64)
    gradients.buffer[...] = 1.0
    model.mlm_loss_and_gradients(BATCH, gradients)
    np.testing.assert_allclose(gradients.buffer - 1.0, once, atol=1e-12 * np.abs(once).max())


@every_variant
def test_float32_is_float64_but_for_rounding(variant: str) -> None:
    wide = small_bert(**VARIANTS[variant])
    wide.parameters.buffer[...] = wide.parameters.buffer.astype(np.float32)
    narrow = MiniBERT.from_parameters(Parameters(wide.config, np.float32, wide.parameters.buffer.astype(np.float32)))
    gradients = gradients_of(narrow, BATCH)
    assert {array.dtype for array in narrow.forward(IDS, MASK, TYPES)[1].values()} == {np.dtype(np.float32)}
    for tensor in gradient_errors(gradients, gradients_of(wide, BATCH)):
        assert tensor.error <= 1e-4, tensor


# --- names ----------------------------------------------------------------------------------------------------------


@every_variant
def test_new_intermediates_have_names_and_gradients(variant: str) -> None:
    settings = VARIANTS[variant]
    model = small_bert(**settings)
    logits, cache = model.forward(IDS, MASK, TYPES)
    kind, gate = settings.get("position_embedding_type", "absolute"), settings.get("attention_gate")
    ways = {"absolute": [], "rotary": ["rotated_Q", "rotated_K"]}.get(kind, ["position_bias"])
    expected = ["Q", "K", "V", *ways, "scores", "attention_weights", "context", *(["gate"] if gate else [])]
    for i in range(2):
        prefix = f"layer_{i}.attention."
        names = [name.removeprefix(prefix) for name in cache if name.startswith(prefix)]
        assert names == [*expected, "projection", "sum", "output"]
    assert ("embeddings.position" in cache) == (kind == "absolute")

    gradients: dict[str, Array] = {}

    def record(name: str, value: Array) -> Array:
        gradients[name] = value.copy()
        return value

    MiniBERTGradients(model).backward_from_logits(np.ones_like(logits), cache, tap=record)
    assert set(gradients) == set(cache)
    assert {name: array.shape for name, array in gradients.items()} == {n: a.shape for n, a in cache.items()}


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("rotary, no gate", "rotated_Q"),
        ("rotary, no gate", "rotated_K"),
        ("rotary, no gate", "Q"),
        ("t5_bias, no gate", "position_bias"),
        ("relative_key, no gate", "position_bias"),
        ("relative_key, no gate", "Q"),
        ("alibi, no gate", "position_bias"),
        ("absolute, gated heads", "context"),
        ("absolute, gated numbers", "context"),
    ],
)
def test_gradients_see_what_a_tap_returned(variant: str, name: str) -> None:
    settings = {"num_hidden_layers": 1, **VARIANTS[variant]}
    name = f"layer_0.attention.{name}"
    shape = small_bert(**settings).forward(IDS, MASK, TYPES)[1][name].shape
    shift = 0.5 * np.random.default_rng(2).normal(size=shape)

    def shifted(model: MiniBERT) -> Any:
        return model.forward(IDS, MASK, TYPES, tap=lambda n, v: v + shift if n == name else v)

    model, moved = small_bert(**settings), small_bert(np.complex128, **settings)
    logits, cache = shifted(model)
    assert np.abs(logits - model.forward(IDS, MASK, TYPES)[0]).max() > 1e-6
    cotangent = np.random.default_rng(3).normal(size=logits.shape)
    grads = MiniBERTGradients(model)
    grads.backward_from_logits(cotangent, cache)
    outcome = check_samples(
        name, COMPLEX_STEP, lambda: (cotangent * shifted(moved)[0]).sum(), moved.parameters, grads.gradients, entries=1
    )
    assert outcome.passed, str(outcome)


@every_variant
def test_arrays_that_a_tap_returns_are_never_written_to(variant: str) -> None:
    model = small_bert(**VARIANTS[variant])
    given: list[tuple[Array, Array]] = []

    def replace(name: str, value: Array) -> Array:
        fresh = value * 1.01
        fresh.flags.writeable = False
        given.append((fresh, fresh.copy()))
        return fresh

    logits, cache = model.forward(IDS, MASK, TYPES, tap=replace)
    MiniBERTGradients(model).backward_from_logits(np.ones_like(logits), cache, tap=replace)
    model.mlm_loss_and_gradients(BATCH, Parameters(model.config, np.float64), tap=replace)
    for fresh, before in given:
        np.testing.assert_array_equal(fresh, before)


@every_variant
def test_one_layer_alone(variant: str) -> None:
    model = small_bert(**VARIANTS[variant])
    _, cache = model.forward(IDS, MASK, TYPES)
    y, parts = model.multi_head_attention(cache["embeddings.output"], 0, MASK)
    np.testing.assert_array_equal(y, cache["layer_0.attention.projection"])
    np.testing.assert_array_equal(parts["scores"], cache["layer_0.attention.scores"])


def test_one_layer_alone_on_rows_beyond_its_embeddings_of_distances() -> None:
    model = small_bert(**POSITIONS["relative_key"])
    longest = model.config.max_position_embeddings
    x = np.random.default_rng(0).normal(size=(1, longest + 1, model.config.hidden_size))
    assert model.multi_head_attention(x[:, 1:])[0].shape == (1, longest, model.config.hidden_size)
    with pytest.raises(InvalidInputError, match=f"at most {longest}"):
        model.multi_head_attention(x)


# --- what must hold -------------------------------------------------------------------------------------------------


@every_relative
def test_a_row_that_begins_later_is_the_same_row(position: str) -> None:
    """Padding in front, where a table of positions would have given every token another vector."""
    model = small_bert(**POSITIONS[position])
    front = np.zeros((3, 1), np.int64)
    later = [np.concatenate([front, part], axis=1) for part in (IDS, MASK, TYPES)]
    logits, cache = model.forward(IDS, MASK, TYPES)
    moved, moved_cache = model.forward(*later)
    np.testing.assert_allclose(moved[:, 1:][MASK], logits[MASK], **TIGHT)
    weights = "layer_1.attention.attention_weights"
    np.testing.assert_allclose(moved_cache[weights][:, :, 1:, 1:], cache[weights], **TIGHT)
    assert not moved_cache[weights][:, :, :, 0].any()

    b, t = np.divmod(BATCH.masked_positions, 6)
    batch = Batch(*later, b * 7 + t + 1, BATCH.target_ids)
    np.testing.assert_allclose(gradients_of(model, batch).buffer, gradients_of(model, BATCH).buffer, **TIGHT)


def test_a_table_of_positions_does_see_where_a_row_begins() -> None:
    """So that the test before this one can fail."""
    model, front = small_bert(), np.zeros((3, 1), np.int64)
    moved, _ = model.forward(*(np.concatenate([front, part], axis=1) for part in (IDS, MASK, TYPES)))
    assert np.abs(moved[:, 1:][MASK] - model.forward(IDS, MASK, TYPES)[0][MASK]).max() > 1e-2


@every_relative
def test_tokens_have_an_order(position: str) -> None:
    model, order = small_bert(**POSITIONS[position]), [0, 3, 1, 5, 4, 2]
    assert np.abs(model.forward(IDS[:, order])[0] - model.forward(IDS)[0][:, order]).max() > 1e-3


def without_positions(position: str) -> MiniBERT:
    """The model of the same numbers in which no position is told from another."""
    other, plain = small_bert(**POSITIONS[position]), small_bert()
    plain.parameters["position_embeddings"][...] = 0
    for name in plain.parameters:
        if name in other.parameters:
            plain.parameters[name][...] = other.parameters[name]
    return plain


@pytest.mark.parametrize("position", ["t5_bias", "relative_key"])
def test_tables_of_zeros_are_attention_without_positions(position: str) -> None:
    model, plain = small_bert(**POSITIONS[position]), without_positions(position)
    for name in model.parameters:
        if name.startswith("relative_"):
            model.parameters[name][...] = 0
    np.testing.assert_allclose(model.forward(IDS, MASK, TYPES)[0], plain.forward(IDS, MASK, TYPES)[0], **TIGHT)
    order = [0, 3, 1, 5, 4, 2]
    np.testing.assert_allclose(model.forward(IDS[:, order])[0], model.forward(IDS)[0][:, order], **TIGHT)
    got, expected = gradients_of(model, BATCH), gradients_of(plain, BATCH)
    for name in got:
        if name in expected:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("position", ["t5_bias", "relative_key"])
def test_what_a_whole_table_adds_is_not_seen(position: str) -> None:
    model = small_bert(**POSITIONS[position])
    logits, _ = model.forward(IDS, MASK, TYPES)
    tables = [name for name in model.parameters if name.startswith("relative_")]
    for name in tables:
        model.parameters[name][...] += np.arange(model.parameters[name].shape[1])
    np.testing.assert_allclose(model.forward(IDS, MASK, TYPES)[0], logits, rtol=1e-11, atol=1e-11)
    gradients = gradients_of(model, BATCH)
    for name in tables:
        np.testing.assert_allclose(gradients[name].sum(axis=0), 0.0, atol=1e-12)


def test_layers_share_one_table_of_biases() -> None:
    """Its gradient is the sum over layers, rows and positions: here from the gradients of all scores."""
    model = small_bert(**POSITIONS["t5_bias"])
    assert model.parameters.layers[0].attention.relative_bias is not None
    assert np.shares_memory(
        model.parameters.layers[0].attention.relative_bias, model.parameters.layers[1].attention.relative_bias
    )
    logits, cache = model.forward(IDS, MASK, TYPES)
    seen: dict[str, Array] = {}

    def record(name: str, value: Array) -> Array:
        seen[name] = value.copy()
        return value

    grads = MiniBERTGradients(model)
    grads.backward_from_logits(np.random.default_rng(0).normal(size=logits.shape), cache, tap=record)
    buckets = relative_bias.bucket(np.arange(6) - np.arange(6)[:, None], 8, 8)
    expected = np.zeros((8, 3))
    for i in range(2):
        dscores = seen[f"layer_{i}.attention.scores"]
        for n in range(8):
            expected[n] += (dscores * (buckets == n)).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(grads.gradients["relative_bias"], expected, **TIGHT)


@pytest.mark.parametrize("gate", ["gated heads", "gated numbers"])
def test_gates_that_are_wide_open_are_no_gates(gate: str) -> None:
    gated, plain = small_bert(**GATES[gate]), small_bert()
    for name in plain.parameters:
        plain.parameters[name][...] = gated.parameters[name]
    for i in range(2):
        gated.parameters[f"b_G_{i}"][...] = 1e4
    np.testing.assert_array_equal(gated.forward(IDS, MASK, TYPES)[0], plain.forward(IDS, MASK, TYPES)[0])
    got, expected = gradients_of(gated, BATCH, DROPOUT), gradients_of(plain, BATCH, DROPOUT)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], **TIGHT, err_msg=name)
    assert not got["W_G_0"].any()  # the slope there is 0


def test_a_gate_that_is_shut_leaves_the_bias() -> None:
    model = small_bert(attention_gate="head")
    model.parameters["b_G_0"][...] = -1e4
    _, cache = model.forward(IDS, MASK, TYPES)
    projection = cache["layer_0.attention.projection"]
    np.testing.assert_array_equal(projection, np.broadcast_to(model.parameters["b_O_0"], projection.shape))


def test_a_shut_gate_silences_its_head_alone() -> None:
    model = small_bert(attention_gate="head")
    model.parameters["b_G_1"][1] = -1e4
    _, cache = model.forward(IDS, MASK, TYPES)
    gate = cache["layer_1.attention.gate"]
    assert gate.shape == (3, 6, 3)
    assert not gate[..., 1].any()
    heads = cache["layer_1.attention.context"] * np.repeat(gate, 4, axis=-1)
    expected = heads @ model.parameters["W_O_1"] + model.parameters["b_O_1"]
    np.testing.assert_allclose(cache["layer_1.attention.projection"], expected, **TIGHT)


def test_variants_switched_off_are_bert_to_the_bit() -> None:
    """Settings of variants that are not chosen, such as rope_theta, do nothing at all."""
    plain = small_bert()
    off = small_bert(
        position_embedding_type="absolute", attention_gate="none", use_bias=True, rope_theta=3.0, **FEW_BUCKETS
    )
    assert off.parameters.table == plain.parameters.table
    assert off.forward(IDS, MASK, TYPES)[0].tobytes() == plain.forward(IDS, MASK, TYPES)[0].tobytes()
    one, two = (gradients_of(model, BATCH, DROPOUT).buffer for model in (plain, off))
    assert one.tobytes() == two.tobytes()


@every_variant
def test_a_row_of_padding_only_is_finite_and_pads_change_nothing(variant: str) -> None:
    model, mask = small_bert(**VARIANTS[variant]), MASK.copy()
    mask[1] = False
    logits, cache = model.forward(IDS, mask, TYPES)
    np.testing.assert_allclose(cache["layer_0.attention.attention_weights"][1], 1 / 6, rtol=1e-12)
    grads = MiniBERTGradients(model)
    grads.backward_from_logits(np.ones_like(logits), cache)
    assert np.isfinite(grads.gradients.buffer).all()
    longer = [np.concatenate([part, np.ones((3, 1), part.dtype)], axis=1) for part in (IDS, MASK, TYPES)]
    longer[1][:, -1] = False
    np.testing.assert_allclose(
        model.forward(*longer)[0][:, :6][MASK], model.forward(IDS, MASK, TYPES)[0][MASK], **TIGHT
    )


@every_relative
def test_rows_of_every_length_up_to_the_longest(position: str) -> None:
    model = small_bert(**POSITIONS[position])
    row = np.array([[2, 7, 4, 7, 3, 9, 11]])
    whole, _ = model.forward(row)
    for T in range(1, 8):
        mask = np.arange(7)[None] < T
        np.testing.assert_allclose(model.forward(row[:, :T])[0], model.forward(row, mask)[0][:, :T], **TIGHT)
    assert whole.shape == (1, 7, 13)


def test_buckets_need_a_distance_that_is_farther_than_those_told_apart() -> None:
    with pytest.raises(ConfigError, match="relative_attention_max_distance"):
        ModelConfig(
            position_embedding_type="t5_bias", relative_attention_num_buckets=64, relative_attention_max_distance=16
        )
    with pytest.raises(ConfigError, match="relative_attention_num_buckets"):
        ModelConfig(position_embedding_type="t5_bias", relative_attention_num_buckets=7)
