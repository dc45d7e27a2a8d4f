"""The simulated pass: what it rounds, how its errors behave, and where it finds what breaks."""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import BATCH, small_bert

from mini_bert.analysis.depth import error_by_depth
from mini_bert.analysis.narrow_pass import NarrowScorer, Recording, forward, rounding_tap, with_rounded_parameters
from mini_bert.analysis.precision import Exact, alone, first_broken, narrow_pass, native_points
from mini_bert.analysis.rounding import FORMATS, Format, relative_error, rounded
from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import identity
from mini_bert.random_streams import RandomStream


def bert(dtype=np.float64, **settings):
    return small_bert(dtype, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **settings)


FULL = BATCH._replace(input_ids=np.maximum(BATCH.input_ids, 1), attention_mask=None)
"""The same batch without padding."""


@pytest.fixture(scope="module")
def exact():
    return Exact.of(bert(), FULL)


def test_the_exact_pass_is_that_of_training(exact):
    gradients = Parameters(exact.model.config, np.float64)
    loss_sum, masked = exact.model.mlm_loss_and_gradients(FULL, gradients)
    assert exact.loss == pytest.approx(loss_sum / masked, rel=1e-14)
    assert relative_error(exact.gradients.buffer, gradients.buffer / masked) < 1e-14
    assert np.array_equal(exact.forward["logits"], exact.model.mlm_logits(FULL))


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e5m2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stream", [None, RandomStream(0, "rounding")], ids=["nearest", "stochastic"])
def test_everything_that_has_a_name_is_rounded(exact, name, dtype, stream):
    format, fits = FORMATS[name], lambda x: np.array_equal(rounded(x, FORMATS[name]), x)
    model = with_rounded_parameters(bert(dtype), format, stream)
    recording = Recording(rounding_tap(format, stream))
    forward(model, FULL, recording)
    assert list(recording.after) == list(exact.forward)
    assert all(map(fits, recording.after.values()))
    assert fits(model.parameters.buffer)
    assert not fits(recording.before["logits"])


def test_gradients_are_rounded_too(exact, monkeypatch):
    seen = {}

    class Watched(Recording):
        def __call__(self, name, value):
            tapped = super().__call__(name, value)
            seen.setdefault(name, []).append(tapped.copy())
            return tapped

    monkeypatch.setattr("mini_bert.analysis.precision.Recording", Watched)
    narrow_pass(exact, FORMATS["bfloat16"])
    assert set(seen) == set(exact.backward)
    assert all(len(arrays) == 2 for arrays in seen.values())  # forward and backward
    assert all(np.array_equal(rounded(x, FORMATS["bfloat16"]), x) for arrays in seen.values() for x in arrays)


def test_in_float64_nothing_is_lost(exact):
    narrow = narrow_pass(exact, FORMATS["float64"])
    for point in [*narrow.forward, *narrow.backward]:
        assert (point.own, point.inherited, point.error, point.ulps.largest) == (0, 0, 0, 0)
        assert point.damage[1:] == (0, 0, 0)
    assert {line.error for line in narrow.gradients} == {0.0}
    assert (narrow.loss, narrow.same_best) == (exact.loss, 1.0)
    assert set(alone(exact, FORMATS["float64"]).values()) == {0.0}


def test_each_bit_of_the_mantissa_halves_the_error(exact):
    mantissa_bits = np.arange(6, 25, 2)
    errors = []
    for m in mantissa_bits.tolist():
        narrow = narrow_pass(exact, Format(f"m{m}", 8, m))
        gradients = [line.error for line in narrow.gradients if not line.true_zero]
        errors.append((narrow.forward[-1].error, np.median(gradients)))
    slopes = np.polyfit(mantissa_bits, np.log2(errors), 1)[0]
    assert slopes == pytest.approx([-1, -1], abs=0.1)


def test_own_error_is_that_of_one_rounding_and_error_is_what_both_make(exact):
    format = FORMATS["bfloat16"]
    narrow = {point.name: point for point in narrow_pass(exact, format).forward}
    for name, point in narrow.items():
        assert point.own <= format.epsilon / 2
        assert point.own == relative_error(rounded(exact.forward[name], format), exact.forward[name])
        assert point.error <= point.inherited + (1 + point.inherited) * format.epsilon / 2
        assert point.ulps.median <= point.ulps.most <= point.ulps.largest
    sums, projection = narrow["layer_1.feed_forward.sum"], narrow["layer_1.feed_forward.projection"]
    residual = narrow["layer_1.attention.output"]
    assert sums.growth == sums.inherited / max(projection.error, residual.error)
    assert narrow["embeddings.token"].growth is None
    assert narrow["embeddings.token"].error == narrow["embeddings.token"].inherited  # the table is rounded already


def test_alone_rounds_one_thing_and_no_other(exact):
    format = FORMATS["float16"]
    errors = alone(exact, format)
    assert list(errors) == ["parameters", *exact.forward]
    logits = exact.forward["logits"]
    assert errors["logits"] == relative_error(rounded(logits, format), logits)
    weights = forward(with_rounded_parameters(exact.model, format), FULL).logits_MV
    assert errors["parameters"] == relative_error(weights, logits)
    together = narrow_pass(exact, format).forward[-1].error
    assert 0.5 * together < np.sqrt(np.sum(np.square(list(errors.values())))) < 2 * together


OVERFLOWS = {
    "layer_0.attention.scores": {"W_Q_0": 900, "W_K_0": 900},
    "layer_1.attention.Q": {"W_Q_1": 60_000},
    "layer_0.feed_forward.pre_activation": {"W1_0": 60_000},
    "layer_1.feed_forward.projection": {"W1_1": 900, "W2_1": 900},
    "mlm.pre_activation": {"W_mlm": 60_000},
}


@pytest.mark.parametrize("place", OVERFLOWS)
def test_what_overflows_first_is_found_in_the_right_place(place):
    model = bert()
    for name, factor in OVERFLOWS[place].items():
        model.parameters[name][...] *= factor
        assert np.abs(model.parameters[name]).max() < FORMATS["float16"].largest
    exact = Exact.of(model, FULL)
    narrow = narrow_pass(exact, FORMATS["float16"])
    broken = first_broken(narrow.forward)
    assert broken is not None
    assert broken.name == place
    assert broken.damage.overflow > 0
    assert broken.ulps.largest == np.inf
    before = narrow.forward[: [point.name for point in narrow.forward].index(place)]
    assert all(point.damage.overflow == 0 and not point.broken for point in before)
    assert first_broken(narrow_pass(exact, FORMATS["bfloat16"]).forward) is None


def test_the_constant_at_masked_keys_is_no_overflow():
    exact = Exact.of(bert(), BATCH)
    assert exact.forward["layer_0.attention.scores"].min() == -1e9
    points = {point.name: point for point in narrow_pass(exact, FORMATS["float16"]).forward}
    scores = points["layer_0.attention.scores"]
    assert (scores.damage.overflow, scores.broken) == (0, False)
    assert scores.damage.elements < exact.forward["layer_0.attention.scores"].size
    assert scores.largest < 100
    assert first_broken(list(points.values())) is None


def test_underflow_is_counted_where_it_happens():
    model = bert()
    for name, power in {"gamma_embeddings": -9, "beta_embeddings": -9, "W_V_0": -13, "b_V_0": -99}.items():
        model.parameters[name][...] *= 2.0**power
    narrow = narrow_pass(Exact.of(model, FULL), FORMATS["float16"])
    points = {point.name: point.damage for point in narrow.forward}
    assert points["layer_0.attention.V"].underflow > 0
    assert points["layer_0.attention.V"].subnormal > 0
    for name in ("embeddings.output", "layer_0.attention.Q", "layer_0.attention.K", "layer_0.attention.scores"):
        assert points[name].underflow == 0


def test_what_follows_from_a_zero_is_not_counted_again():
    model = bert()
    model.parameters["W_V_0"][...] *= 1e-9  # zero in float16, all of it
    model.parameters["b_V_0"][...] = 0
    points = {point.name: point for point in narrow_pass(Exact.of(model, FULL), FORMATS["float16"]).forward}
    V = points["layer_0.attention.V"]
    assert (V.inherited, V.error, V.damage.underflow) == (1.0, 1.0, 0)


def test_numpys_own_float32_is_measured_as_it_is(exact):
    model = bert(np.float32)
    model.parameters.buffer[...] = exact.model.parameters.buffer
    recording = Recording()
    forward(model, FULL, recording)
    points = native_points(exact, FORMATS["float32"])
    assert [point.name for point in points] == list(recording.after)
    for point in points:
        assert point.error == relative_error(recording.after[point.name].astype(float), exact.forward[point.name])
    assert 0 < points[-1].error < 1e-5


def test_depth_is_a_power_law_and_each_error_that_of_a_pass():
    config = bert(num_attention_heads=2).config
    format = FORMATS["bfloat16"]
    depth = error_by_depth(config, FULL, format, blocks=8, seed=5)
    model = MiniBERT(config.model_copy(update={"num_hidden_layers": 8}), dtype=np.float64, seed=5)
    points = {point.name: point for point in narrow_pass(Exact.of(model, FULL), format).forward}
    assert depth.errors[:7] == [points[f"layer_{i}.output"].error for i in range(7)]
    slope, _ = np.polyfit(np.log([5, 6, 7, 8]), np.log(depth.errors[4:]), 1)
    assert depth.exponent == pytest.approx(slope)
    assert np.isnan(error_by_depth(config, FULL, FORMATS["float64"], blocks=2).exponent)


def test_true_zeros_are_named(exact):
    lines = {line.name: line for line in narrow_pass(exact, FORMATS["bfloat16"]).gradients}
    assert {name for name, line in lines.items() if line.true_zero} == {"b_K_0", "b_K_1"}
    assert all(0 < line.error < 1 for line in lines.values() if not line.true_zero)


def test_a_scorer_in_float32_is_the_model_itself():
    model = bert(np.float32)
    scorer = NarrowScorer(model, FORMATS["float32"])
    assert np.array_equal(scorer.mlm_logits(BATCH), model.mlm_logits(BATCH))
    assert evaluate_masked_lm(scorer, [BATCH]).loss == evaluate_masked_lm(model, [BATCH]).loss
    assert [len(best) for best in scorer.best] == [6, 6]


def test_weights_alone_are_rounded_where_the_tap_is_identity():
    model, format = bert(np.float32), FORMATS["bfloat16"]
    weights_alone = NarrowScorer(model, format, identity).mlm_logits(BATCH)
    assert np.array_equal(weights_alone, with_rounded_parameters(model, format).mlm_logits(BATCH))
    everything = NarrowScorer(model, format).mlm_logits(BATCH)
    assert np.array_equal(everything, rounded(everything, format))
    assert not np.array_equal(everything, weights_alone)


def test_a_scorer_whose_numbers_overflow_is_no_score():
    model = bert(np.float32)
    model.parameters["W1_0"][...] *= 60_000
    with pytest.raises(NonFiniteError):
        evaluate_masked_lm(NarrowScorer(model, FORMATS["float16"]), [BATCH])


def test_a_batch_without_masks_is_refused():
    with pytest.raises(InvalidInputError, match="no masked position"):
        forward(bert(), BATCH._replace(masked_positions=None))


@pytest.mark.reference
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_pytorchs_narrow_model_is_as_far_off_as_the_simulated_one(tmp_path, name):
    """PyTorch computes in the format itself. Its roundings fall elsewhere: the errors differ, but not in size."""
    import torch
    from transformers import BertForMaskedLM

    settings = {"vocab_size": 256, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    model = small_bert(**settings, num_hidden_layers=3, max_position_embeddings=32)
    model.parameters.buffer[...] *= 0.4
    model.save_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(5, 256, (8, 32))
    batch = Batch(ids, masked_positions=np.arange(0, 256, 5), target_ids=np.arange(52))
    exact = Exact.of(model, batch)
    ours = {point.name: point.error for point in narrow_pass(exact, FORMATS[name]).forward}

    theirs = BertForMaskedLM.from_pretrained(tmp_path, torch_dtype=getattr(torch, name)).eval()
    with torch.no_grad():
        output = theirs(torch.tensor(ids), output_hidden_states=True)
    for theirs_, at in ((output.hidden_states[2], "layer_1.output"), (output.logits, "logits")):
        rows = theirs_.to(torch.float64).numpy()
        if at == "logits":
            rows = rows.reshape(256, -1)[::5]
        ratio = relative_error(rows, exact.forward[at]) / ours[at]
        assert ratio == pytest.approx(1, abs=0.15)
